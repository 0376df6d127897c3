import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { eventually } from '../eventually.ts';
import { endChild, keepTrack } from '../process.ts';
import { cached, runOrFail } from '../test-cache.ts';
import type { KubeApiServer } from './kube-apiserver.ts';

const sources = fileURLToPath(new URL('cert-manager/', import.meta.url));
const buildMs = 1_800_000;
const kinds = ['certificaterequests', 'certificates', 'clusterissuers', 'issuers'];

export interface CertManager extends AsyncDisposable {
  stop(): Promise<void>;
  start(): Promise<void>;
  log(): string;
}

/** cert-manager's own controllers, and the CRDs that its release has, both from one module; built once. */
export async function certManagerBinary(): Promise<{
  readonly program: string;
  readonly crds: readonly string[];
  readonly version: string;
}> {
  const hash = createHash('sha256');
  for (const name of ['go.mod', 'go.sum', 'main.go']) hash.update(await readFile(join(sources, name)));
  const go = (...args: readonly string[]): Promise<string> =>
    runOrFail('go', [args[0] ?? '', '-C', sources, ...args.slice(1)], {
      env: { ...process.env, GOTOOLCHAIN: 'local', CGO_ENABLED: '0' },
      timeoutMs: buildMs,
    });
  const folder = await cached(`cert-manager-${hash.digest('hex').slice(0, 16)}`, async (into) => {
    await go('build', '-mod=readonly', '-trimpath', '-ldflags=-s -w', '-o', join(into, 'cert-manager'), '.');
    const module = (await go('list', '-m', '-f', '{{.Dir}}', 'github.com/cert-manager/cert-manager')).trim();
    for (const kind of kinds)
      await runOrFail('cp', ['--no-preserve=mode', join(module, 'deploy', 'crds', `cert-manager.io_${kind}.yaml`), into]);
  });
  const crds = await Promise.all(kinds.map((kind) => readFile(join(folder, `cert-manager.io_${kind}.yaml`), 'utf8')));
  const version = /cert-manager v(\S+)/.exec(await readFile(join(sources, 'go.mod'), 'utf8'))?.[1] ?? '';
  return { program: join(folder, 'cert-manager'), crds, version };
}

/** The CRDs in a real API server, and the controllers beside it. `approve: false`: somebody else says what may be signed. */
export async function startCertManager(kube: KubeApiServer, options: { readonly approve?: boolean } = {}): Promise<CertManager> {
  const { program, crds } = await certManagerBinary();
  for (const crd of crds) await kube.apply(crd);
  await eventually('the API server serves the kinds of cert-manager', async () => {
    const served = JSON.stringify((await kube.call('GET', '/apis/cert-manager.io/v1')).body);
    return kinds.every((kind) => served.includes(`"${kind}"`)) || undefined;
  });
  await kube.apply('{apiVersion: v1, kind: Namespace, metadata: {name: cert-manager}}');
  const kubeconfig = await kube.kubeconfig({ token: kube.adminToken });
  let child: ReturnType<typeof spawn> | undefined;
  let said = '';

  async function start(): Promise<void> {
    child = spawn(program, [`-kubeconfig=${kubeconfig}`, `-approve=${String(options.approve ?? true)}`], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    keepTrack(child);
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-20_000)));
    return Promise.resolve();
  }

  async function stop(): Promise<void> {
    if (child) await endChild(child);
    child = undefined;
  }

  await start();
  return { start, stop, log: () => said, [Symbol.asyncDispose]: stop };
}
