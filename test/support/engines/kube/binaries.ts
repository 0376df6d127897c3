import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cached, runOrFail } from '../../test-cache.ts';
import { tempFolder } from '../../temp.ts';

const sources = fileURLToPath(new URL('.', import.meta.url));
const buildMs = 2_400_000;

export interface KubeBinaries {
  readonly etcd: string;
  readonly apiServer: string;
}

/** A real kube-apiserver and its etcd, built from the pinned modules: eight CPU-minutes, once. */
export async function kubeBinaries(): Promise<KubeBinaries> {
  const hash = createHash('sha256');
  for (const name of ['go.mod', 'go.sum']) hash.update(await readFile(join(sources, name)));
  const folder = await cached(`kube-${hash.digest('hex').slice(0, 16)}`, build);
  return { etcd: join(folder, 'etcd'), apiServer: join(folder, 'kube-apiserver') };
}

async function build(into: string): Promise<void> {
  await using goCache = await tempFolder(); // 3 GB, of no use once the binaries are linked.
  const env = { ...process.env, GOCACHE: goCache.path, GOTOOLCHAIN: 'local', CGO_ENABLED: '0' };
  const go = (...args: readonly string[]): Promise<string> =>
    runOrFail('go', [args[0] ?? '', '-C', sources, ...args.slice(1)], { env, timeoutMs: buildMs });
  const version = (await go('list', '-m', '-f', '{{.Version}}', 'k8s.io/kubernetes')).trim();
  const [, major, minor] = /^v(\d+)\.(\d+)\./.exec(version) ?? [];
  if (major === undefined || minor === undefined) throw new Error(`not a version of Kubernetes: ${version}`);
  // Without these the server says v0.0.0-master+$Format:%H$ in /version, which clients can't read.
  const stamps = Object.entries({ gitVersion: version, gitMajor: major, gitMinor: minor, gitTreeState: 'clean' });
  const ldflags = ['-s', '-w', ...stamps.map(([name, value]) => `-X k8s.io/component-base/version.${name}=${value}`)].join(' ');
  for (const [name, path] of [
    ['etcd', 'go.etcd.io/etcd/server/v3'],
    ['kube-apiserver', 'k8s.io/kubernetes/cmd/kube-apiserver'],
  ] as const) {
    await go('build', '-mod=readonly', '-trimpath', `-ldflags=${ldflags}`, '-o', join(into, name), path);
  }
}
