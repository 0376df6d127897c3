import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { freePort } from '../ports.ts';
import { endChild, keepTrack, runProgram } from '../process.ts';
import { replaceFile, tempFolder } from '../temp.ts';
import { cached } from '../test-cache.ts';
import { testPki } from '../test-pki.ts';
import { newEngineCa } from './new-ca.ts';

const sources = fileURLToPath(new URL('istio-ca/', import.meta.url));
const buildMs = 1_800_000;

let binary: Promise<string> | undefined;

/** Once for all CAs of this process: they may start at the same time. */
export function istioCaBinary(): Promise<string> {
  binary ??= buildIstioCa();
  return binary;
}

/** Istio's CA packages and little else; built when its sources are new. */
async function buildIstioCa(): Promise<string> {
  const hash = createHash('sha256');
  for (const name of ['go.mod', 'go.sum', 'main.go']) hash.update(await readFile(join(sources, name)));
  const folder = await cached(`istio-ca-${hash.digest('hex').slice(0, 16)}`, async (into) => {
    const built = await runProgram('go', ['build', '-C', sources, '-mod=readonly', '-trimpath', '-o', join(into, 'istio-ca'), '.'], {
      timeoutMs: buildMs,
    });
    if (built.code !== 0) throw new Error(`go build failed: ${built.stderr.slice(-2000)}`);
  });
  return join(folder, 'istio-ca');
}

/** Of the module: `v0.0.0-20260827124520-eed52ebb66ad`. */
export async function istioVersion(): Promise<string> {
  return /istio\.io\/istio (\S+)/.exec(await readFile(join(sources, 'go.mod'), 'utf8'))?.[1] ?? 'unknown';
}

export interface IstioCa extends AsyncDisposable {
  readonly address: string;
  /** PEM of what its TLS certificate hangs on, which is not what it signs with. */
  readonly tlsCaFile: string;
  /** PEM of the CA's roots, as its operator hands them out. */
  readonly rootsFile: string;
  stop(): Promise<void>;
  start(): Promise<void>;
  /** A new root, handed out first, then signed under. */
  rotate(): Promise<void>;
}

export type IstioCaWish =
  /** The names of a CSR are certified for whoever shows a client certificate of this SPIFFE ID by that CA. */
  | { readonly authority: string; readonly clientCaPem: string }
  /** As istiod: the account of the token gets its own name, and those of the pods on its node. */
  | { readonly node: string; readonly token: string; readonly pods: readonly string[] };

/** Istio's CA on loopback, with an intermediate under a root, as with a `cacerts` secret. */
export async function startIstioCa(wish: IstioCaWish): Promise<IstioCa> {
  const program = await istioCaBinary();
  const folder = await tempFolder();
  const address = `127.0.0.1:${String(await freePort())}`;
  const tls = await testPki('istio tls');
  const server = await tls.server('istiod.test');
  const [caFolder, rootsFile, tlsCaFile] = [folder.file('ca'), folder.file('roots.pem'), folder.file('tls-ca.pem')];
  await mkdir(caFolder);
  await writeFile(tlsCaFile, tls.rootPem);
  await writeFile(folder.file('server.crt'), server.certificatePem);
  await writeFile(folder.file('server.key'), server.keyPem, { mode: 0o600 });
  const args = ['-address', address, '-ca', caFolder, '-cert', folder.file('server.crt'), '-key', folder.file('server.key')];
  const env: NodeJS.ProcessEnv = { ...process.env };
  if ('authority' in wish) {
    await writeFile(folder.file('client-ca.pem'), wish.clientCaPem);
    args.push('-authority', wish.authority, '-client-ca', folder.file('client-ca.pem'));
  } else {
    await writeFile(folder.file('token'), wish.token);
    args.push('-node', wish.node, '-token', folder.file('token'), '-pods', wish.pods.join(','));
    env['CA_TRUSTED_NODE_ACCOUNTS'] = wish.node;
  }

  async function signUnder(ca: Awaited<ReturnType<typeof newEngineCa>>): Promise<void> {
    await writeFile(join(caFolder, 'ca-cert.pem'), ca.intermediatePem);
    await writeFile(join(caFolder, 'ca-key.pem'), ca.intermediateKeyPem, { mode: 0o600 });
    await writeFile(join(caFolder, 'cert-chain.pem'), ca.intermediatePem);
    await writeFile(join(caFolder, 'root-cert.pem'), ca.rootPem);
  }

  let child: ChildProcess | undefined;
  async function start(): Promise<void> {
    const started = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    keepTrack(started);
    child = started;
    let said = '';
    started.stderr.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-3000)));
    await once(createInterface({ input: started.stdout }), 'line', { signal: AbortSignal.timeout(30_000) }).catch((error: unknown) => {
      throw new Error(`istio-ca: ${said}`, { cause: error });
    });
  }
  async function stop(): Promise<void> {
    if (child) await endChild(child);
    child = undefined;
  }

  const first = await newEngineCa('istio 1');
  await signUnder(first);
  await writeFile(rootsFile, first.rootPem);
  await start();
  return {
    address,
    tlsCaFile,
    rootsFile,
    start,
    stop,
    async rotate() {
      const second = await newEngineCa('istio 2');
      await replaceFile(rootsFile, first.rootPem + second.rootPem);
      await signUnder(second);
      await stop();
      await start();
    },
    async [Symbol.asyncDispose]() {
      await stop();
      await folder[Symbol.asyncDispose]();
    },
  };
}
