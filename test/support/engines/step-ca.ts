import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose';
import type { JWK } from 'jose';
import { Agent, request } from 'undici';
import { sha256Hex } from '../../../src/x509/keys.ts';
import { eventually } from '../eventually.ts';
import { freePort } from '../ports.ts';
import { endChild, keepTrack } from '../process.ts';
import { tempFolder } from '../temp.ts';
import { cached, install } from '../test-cache.ts';
import { newEngineCa } from './new-ca.ts';
import type { EngineCa } from './new-ca.ts';

export const stepCaVersion = '0.30.2';

let binary: Promise<string> | undefined;

/** Once for all CAs of this process: they may start at the same time. */
export function stepCaBinary(): Promise<string> {
  binary ??= buildStepCa();
  return binary;
}

async function buildStepCa(): Promise<string> {
  const folder = await cached(`step-ca-${stepCaVersion}`, (into) =>
    install('go', ['install', '-trimpath', '-ldflags=-s -w', `github.com/smallstep/certificates/cmd/step-ca@v${stepCaVersion}`], {
      GOBIN: into,
      CGO_ENABLED: '0',
    }),
  );
  return join(folder, 'step-ca');
}

export interface StepCa extends AsyncDisposable {
  readonly url: string;
  /** The SHA-256 of its first root, in hex. */
  readonly rootFingerprint: string;
  /** The private key of its JWK provisioner `signet`. */
  readonly provisionerKey: JWK;
  /** Its X5C provisioner `signet-x5c` believes certificates of this CA. */
  readonly x5cRootPem: string;
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Shows a second root beside the first one, but signs under the first. */
  addRoot(): Promise<void>;
  /** Signs under the second root from now on. */
  signUnderSecondRoot(): Promise<void>;
}

/** A real step-ca on loopback with a root, an intermediate, and two provisioners; its data outlives a stop. */
export async function startStepCa(options: { readonly x5cRootPem: string; readonly minimumLife?: string }): Promise<StepCa> {
  const program = await stepCaBinary();
  const folder = await tempFolder();
  const port = await freePort();
  const url = `https://127.0.0.1:${String(port)}`;
  const first = await newEngineCa('step 1');
  let roots: readonly EngineCa[] = [first];
  let signing = first;
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
  const publicJwk = await exportJWK(publicKey);
  const kid = await calculateJwkThumbprint(publicJwk);
  const claims = { minTLSCertDuration: options.minimumLife ?? '5s', maxTLSCertDuration: '48h', defaultTLSCertDuration: '1h' };

  async function configure(): Promise<void> {
    for (const [i, { rootPem }] of roots.entries()) await writeFile(folder.file(`root-${String(i)}.crt`), rootPem);
    await writeFile(folder.file('intermediate.crt'), signing.intermediatePem);
    await writeFile(folder.file('intermediate.key'), signing.intermediateKeyPem, { mode: 0o600 });
    const config = {
      root: roots.map((_, i) => folder.file(`root-${String(i)}.crt`)),
      crt: folder.file('intermediate.crt'),
      key: folder.file('intermediate.key'),
      address: `127.0.0.1:${String(port)}`,
      dnsNames: ['127.0.0.1', 'localhost'],
      logger: { format: 'json' },
      db: { type: 'badgerv2', dataSource: folder.file('db') },
      authority: {
        provisioners: [
          { type: 'JWK', name: 'signet', key: { ...publicJwk, use: 'sig', alg: 'ES256', kid }, claims },
          { type: 'X5C', name: 'signet-x5c', roots: Buffer.from(options.x5cRootPem).toString('base64'), claims },
        ],
      },
      tls: { minVersion: 1.2, maxVersion: 1.3 },
    };
    await writeFile(folder.file('ca.json'), JSON.stringify(config));
  }

  let child: ChildProcess | undefined;
  async function start(): Promise<void> {
    await configure();
    const started = spawn(program, [folder.file('ca.json')], { cwd: folder.path, stdio: ['ignore', 'pipe', 'pipe'] });
    keepTrack(started);
    child = started;
    let said = '';
    for (const stream of [started.stdout, started.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-3000)));
    try {
      await eventually('step-ca', async () => {
        if (started.exitCode !== null) throw new Error(`it ended with ${String(started.exitCode)}`);
        return (await isHealthy(url, roots)) || undefined;
      });
    } catch (error) {
      await endChild(started);
      throw new Error(said, { cause: error });
    }
  }
  async function stop(): Promise<void> {
    if (child) await endChild(child);
    child = undefined;
  }
  async function restart(): Promise<void> {
    await stop();
    await start();
  }

  await start();
  return {
    url,
    rootFingerprint: sha256Hex(first.root),
    provisionerKey: { ...(await exportJWK(privateKey)), alg: 'ES256', use: 'sig', kid },
    x5cRootPem: options.x5cRootPem,
    start,
    stop,
    async addRoot() {
      roots = [first, await newEngineCa('step 2')];
      await restart();
    },
    async signUnderSecondRoot() {
      signing = roots[1] ?? first;
      await restart();
    },
    async [Symbol.asyncDispose]() {
      await stop();
      await folder[Symbol.asyncDispose]();
    },
  };
}

async function isHealthy(url: string, roots: readonly EngineCa[]): Promise<boolean> {
  const agent = new Agent({ connect: { ca: roots.map(({ rootPem }) => rootPem) } });
  try {
    const { statusCode, body } = await request(`${url}/health`, { dispatcher: agent, signal: AbortSignal.timeout(2000) });
    await body.dump();
    return statusCode === 200;
  } catch {
    return false;
  } finally {
    await agent.destroy();
  }
}
