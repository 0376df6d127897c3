import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { createRootCertificate } from '../../src/x509/ca-certificate.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { benchIssuer } from './fixtures.ts';

export interface ServerUnderTest {
  readonly pid: number;
  readonly grpc: string;
  readonly http: string;
  /** What clients pin. */
  readonly caFile: string;
  /** From exec to the ready line, in ms. */
  readonly startMs: number;
  /** Puts another root into the trusted-roots file: the bundle changes and is pushed. */
  changeBundle(): void;
  stop(): Promise<void>;
}

export interface ServerOptions {
  readonly folder: string;
  readonly jwksFile: string;
  /** Processors that the server may run on, as taskset takes them; undefined for all. */
  readonly cpus?: string;
  /** 0 picks a free one. */
  readonly port?: number;
  readonly issuer?: string;
  /** Whether there is a file of trusted roots to change, for pushes. */
  readonly spareRoots?: boolean;
  /** The longest life of a certificate, as the configuration has it; undefined for that of the standard tier. */
  readonly certificateLife?: string;
  /** The one CA backend, instead of the built-in one. */
  readonly backend?: object;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

const mostChanges = 100;

/** A production-mode server on SQLite, as an operator would run it, with rates that a benchmark doesn't reach. */
export async function startServerUnderTest(options: ServerOptions): Promise<ServerUnderTest> {
  const { folder } = options;
  const data = join(folder, 'data');
  mkdirSync(data, { recursive: true });
  chmodSync(data, 0o700);
  const rootsFile = join(folder, 'roots.pem');
  const spareRoots = [rootPem('bench root 1'), rootPem('bench root 2')];
  writeFileSync(rootsFile, spareRoots[0] ?? '');
  // Ready to be moved into place, so that little of what is measured is the harness's own.
  const nextRoots = join(folder, 'next-roots');
  mkdirSync(nextRoots);
  const changes = Array.from({ length: mostChanges }, (_, i) => join(nextRoots, `${String(i).padStart(3, '0')}.pem`));
  changes.forEach((file, i) => {
    writeFileSync(file, spareRoots[(i + 1) % 2] ?? '');
  });
  const configFile = join(folder, 'signet.yaml');
  writeFileSync(
    configFile,
    `trustDomain: cluster.local
data: ${data}
listen: { grpc: "127.0.0.1:${String(options.port ?? 0)}", http: "127.0.0.1:0", names: [localhost, 127.0.0.1] }
identity:
  issuers:
    - { id: bench, issuer: "${options.issuer ?? benchIssuer}", audiences: [istio-ca, signet], jwks: ${resolve(options.jwksFile)}, allow: ["**"] }
ca: { keyEncryption: { keyEnvironment: BENCH_KEY }, trustedRoots: [${options.spareRoots ? rootsFile : ''}]${options.backend ? `, backends: { own: ${JSON.stringify(options.backend)} }` : ''} }
policy: ${options.certificateLife === undefined ? '{}' : `{ tiers: { bench: ${options.certificateLife} }, defaults: { tier: bench } }`}
limits: { issuancePerSecond: 100000, issuanceBurst: 1000000, totalIssuancePerSecond: 100000, totalIssuanceBurst: 1000000, streamsPerIdentity: 20000, streamsPerConnection: 20000 }
log: { level: warn }
`,
  );
  const command = [process.execPath, 'bin/signet.js', 'server', '--config', configFile];
  const [program = '', ...args] = options.cpus === undefined ? command : ['taskset', '-c', options.cpus, ...command];
  const started = performance.now();
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...options.env, BENCH_KEY: randomBytes(32).toString('base64') },
  });
  const ready = await readyLine(child);
  const startMs = performance.now() - started;
  return {
    pid: ready.pid,
    grpc: ready.grpc,
    http: ready.http,
    caFile: join(data, 'server-ca.pem'),
    startMs,
    changeBundle() {
      const next = changes.shift();
      if (next === undefined) throw new Error(`the bundle can be changed ${String(mostChanges)} times`);
      renameSync(next, rootsFile);
    },
    async stop() {
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    },
  };
}

function rootPem(commonName: string): string {
  const now = Math.floor(Date.now() / 1000) * 1000;
  const der = createRootCertificate({
    key: generateKeyPair(),
    commonName,
    organization: 'bench',
    notBefore: now - 3_600_000,
    notAfter: now + 86_400_000,
  });
  return pemEncode('CERTIFICATE', der);
}

async function readyLine(child: ChildProcess): Promise<{ pid: number; grpc: string; http: string }> {
  if (!child.stdout) throw new Error('the server has no stdout');
  const gone = new AbortController();
  child.once('exit', (code) => {
    gone.abort(new Error(`the server ended with ${String(code)} before it was ready`));
  });
  const lines = createInterface({ input: child.stdout });
  const [line] = (await once(lines, 'line', { signal: AbortSignal.any([gone.signal, AbortSignal.timeout(60_000)]) })) as [string];
  const found = /^ready pid=(\d+) grpc=(\S+) http=(\S+) /.exec(line);
  if (!found) throw new Error(`not a ready line: ${line}`);
  return { pid: Number(found[1]), grpc: found[2] ?? '', http: found[3] ?? '' };
}
