import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { runOrFail } from '../../support/test-cache.ts';

const installMs = 300_000;

/** What the Docker engine and the images of its tests are made with: the program, and the Debian package that has it. */
const needed: readonly (readonly [program: string, debianPackage: string])[] = [
  ['dockerd', 'docker.io'],
  ['docker', 'docker.io'],
  ['debootstrap', 'debootstrap'],
];

/** Installs what is missing where it may, as root on Debian; anywhere else it says what to install. */
export async function requirePrograms(): Promise<{ readonly dockerd: string }> {
  const missing = new Set<string>();
  for (const [program, debianPackage] of needed) if ((await programPath(program)) === undefined) missing.add(debianPackage);
  // An engine of one's own mounts file systems and makes networks.
  if (process.getuid?.() !== 0) throw new Error("a Docker engine of the tests' own needs root");
  if (missing.size > 0) await install([...missing]);
  const dockerd = await programPath('dockerd');
  if (dockerd === undefined) throw new Error('there is still no dockerd on the path');
  return { dockerd };
}

async function install(packages: readonly string[]): Promise<void> {
  if ((await programPath('apt-get')) === undefined) throw new Error(`install ${packages.join(' and ')}: there is no apt-get here to do it`);
  process.stderr.write(`installing ${packages.join(' and ')}, once\n`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  await runOrFail('apt-get', ['update', '-q'], { env, timeoutMs: installMs });
  // iptables is only recommended by docker.io, but networks don't come up without.
  await runOrFail('apt-get', ['install', '-q', '-y', '--no-install-recommends', ...packages, 'iptables'], { env, timeoutMs: installMs });
}

/** Where a program is on the path. */
export async function programPath(program: string): Promise<string | undefined> {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const file = join(folder, program);
    const runs = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (runs) return file;
  }
  return undefined;
}
