import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/base/clock.ts';
import { openAdminClient, type AdminClient } from '../../src/cli/admin-client.ts';
import { openDataFolderIssuer } from '../../src/cli/dev-issuer-file.ts';
import { Hopeless } from './eventually.ts';
import type { AuthorityOrder, AuthorityState } from './outage-server.ts';
import { endChild, keepTrack, runProgram, type Ran } from './process.ts';

const bin = fileURLToPath(new URL('../../bin/signet.js', import.meta.url));
const outageServer = fileURLToPath(new URL('./outage-server.ts', import.meta.url));
const startMs = 60_000;

export interface SignetOptions {
  readonly data: string;
  readonly leafTtl?: string;
  readonly grpc?: string;
  readonly http?: string;
  /** More flags of `signet server`. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Instead of the real program, the one whose CA can be made to fail: the configuration file that it takes. */
  readonly outagesWith?: string;
}

export interface RunningSignet extends AsyncDisposable {
  readonly pid: number;
  /** host:port, as its ready line says. */
  readonly grpc: string;
  readonly http: string;
  readonly adminSocket: string;
  readonly data: string;
  readonly grpcPort: number;
  log(): Promise<string>;
  /** What its CA does from now on, or the one of its backends that is named; only with `outagesWith`. */
  authority(state: AuthorityState, name?: string): Promise<void>;
  /** Resolves once the process is gone. */
  kill(signal: NodeJS.Signals): Promise<void>;
  /** A new process on the same folder and the same ports; this one must be gone. */
  restart(): Promise<RunningSignet>;
}

/** A server in dev mode on ports of its own, once it has said that it is ready. */
export async function startSignet(options: SignetOptions): Promise<RunningSignet> {
  const { data, grpc = '127.0.0.1:0', http = '127.0.0.1:0', leafTtl } = options;
  const args = [
    'server',
    '--dev',
    '--data',
    data,
    '--grpc',
    grpc,
    '--http',
    http,
    ...(leafTtl ? ['--leaf-ttl', leafTtl] : []),
    ...(options.args ?? []),
  ];
  const logFile = `${data}.log`;
  const child =
    options.outagesWith === undefined
      ? spawn(process.execPath, [bin, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...options.env } })
      : spawn(process.execPath, [outageServer, options.outagesWith, data, leafTtl ?? '1h'], { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
  keepTrack(child);
  child.stderr?.pipe(createWriteStream(logFile, { flags: 'a' }));
  const log = (): Promise<string> => readFile(logFile, 'utf8').catch(() => '');
  let ready: ReadyLine;
  try {
    ready = await readyLine(child);
  } catch (error) {
    await endChild(child);
    throw new Hopeless(`signet ${args.join(' ')}: ${(await log()).slice(-4000)}`, { cause: error });
  }
  return {
    ...ready,
    data,
    log,
    grpcPort: Number(ready.grpc.split(':').at(-1)),
    async authority(state, name) {
      const told = once(child, 'message');
      const order: AuthorityOrder = { state, name };
      child.send(order);
      await told;
    },
    kill: async (signal) => endChild(child, signal, 30_000),
    restart: async () => startSignet({ ...options, grpc: ready.grpc, http: ready.http }),
    [Symbol.asyncDispose]: async () => endChild(child, 'SIGTERM', 15_000),
  };
}

interface ReadyLine {
  readonly pid: number;
  readonly grpc: string;
  readonly http: string;
  readonly adminSocket: string;
}

async function readyLine(child: ChildProcess): Promise<ReadyLine> {
  return new Promise((resolve, reject) => {
    let text = '';
    const timer = setTimeout(() => {
      reject(new Error('no ready line'));
    }, startMs);
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      clearTimeout(timer);
      reject(new Error(`ended with ${String(code ?? signal)} before it was ready`));
    });
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      const match = /^ready pid=(\d+) grpc=(\S+) http=(\S+) admin=(.+)$/m.exec(text);
      const [, pid, grpc, http, admin] = match ?? [];
      if (!pid || !grpc || !http || !admin) return;
      clearTimeout(timer);
      resolve({ pid: Number(pid), grpc, http, adminSocket: admin });
    });
  });
}

/** Runs `signet <verb>` to its end. */
export async function signetCli(
  args: readonly string[],
  options: { readonly env?: Readonly<Record<string, string>>; readonly timeoutMs?: number } = {},
): Promise<Ran> {
  return runProgram(process.execPath, [bin, ...args], {
    env: { ...process.env, ...options.env },
    ...(options.timeoutMs ? { timeoutMs: options.timeoutMs } : {}),
  });
}

/** As `signetCli`, and throws with what it said unless it exited with 0. */
export async function signetDone(args: readonly string[], timeoutMs?: number): Promise<string> {
  const ran = await signetCli(args, timeoutMs ? { timeoutMs } : {});
  if (ran.code !== 0) throw new Error(`signet ${args.join(' ')} exited with ${String(ran.code)}: ${ran.stderr.slice(-2000)}`);
  return ran.stdout;
}

/** A long-running verb (`csr --watch`, `token --watch`), ended with `await using`. */
export function signetVerb(args: readonly string[]): AsyncDisposable & { readonly pid: number; readonly output: () => string } {
  const child = spawn(process.execPath, [bin, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  keepTrack(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (chunk: string) => (output += chunk));
  return { pid: child.pid ?? 0, output: () => output, [Symbol.asyncDispose]: async () => endChild(child) };
}

export interface TokenWish {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly pod?: string;
  readonly audience?: string;
  readonly ttlMs?: number;
}

/** A token of the development issuer, made here: a process for each would be most of what a busy machine does. */
export async function mintToken(data: string, wish: TokenWish): Promise<string> {
  const issuer = await openDataFolderIssuer(data, systemClock);
  const { ttlMs = 3_600_000, audience = 'signet', ...who } = wish;
  return issuer.mint({ ...who, audience, ttlMs });
}

/** Asks the admin API once. */
export async function askAdmin<T>(data: string, ask: (admin: AdminClient) => Promise<T>): Promise<T> {
  const admin = openAdminClient({ data });
  try {
    return await ask(admin);
  } finally {
    admin.close();
  }
}

/** `signet certs list --json`: every certificate on record. */
export async function listedSerials(data: string): Promise<ReadonlySet<string>> {
  const text = await signetDone(['certs', 'list', '--data', data, '--json']);
  return new Set(
    text.match(/"serial":\s*"([0-9a-f]+)"/gi)?.map(
      (pair) =>
        pair
          .split('"')
          .at(-2)
          ?.toLowerCase()
          .replace(/^0+(?=.)/, '') ?? '',
    ) ?? [],
  );
}

/** The anchors that clients of the gRPC API pin. */
export async function serverCa(data: string): Promise<Buffer> {
  return readFile(join(data, 'server-ca.pem'));
}
