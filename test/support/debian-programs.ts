import { accessSync, constants, existsSync, globSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { install, runOrFail } from './test-cache.ts';

/** Where PostgreSQL's programs are, installed by Debian's package manager if they are missing. */
export async function postgresPrograms(): Promise<string> {
  const find = (): string | undefined => globSync('/usr/lib/postgresql/*/bin/postgres').toSorted().at(-1);
  return dirname(await found(find, 'postgresql'));
}

export async function nginxProgram(): Promise<string> {
  return found(() => ['/usr/sbin/nginx', '/usr/local/sbin/nginx'].find(isProgram), 'nginx-light');
}

/** A JDK: `java` that takes a source file, and `keytool` beside it. */
export async function javaPrograms(): Promise<{ readonly java: string }> {
  const java = await found(() => ['/usr/bin/java', '/usr/local/bin/java'].find(isProgram), 'default-jdk-headless');
  return { java };
}

/** SoftHSM 2: `softhsm2-util`, its PKCS#11 module, and the version. */
export async function softHsmPrograms(): Promise<{ readonly util: string; readonly module: string; readonly version: string }> {
  const util = await found(() => ['/usr/bin/softhsm2-util', '/usr/local/bin/softhsm2-util'].find(isProgram), 'softhsm2');
  const module = ['/usr/lib/softhsm/libsofthsm2.so', '/usr/local/lib/softhsm/libsofthsm2.so'].find((file) => existsSync(file));
  if (module === undefined) throw new Error("SoftHSM's module is not to be found");
  return { util, module, version: (await runOrFail(util, ['--version'])).trim() };
}

async function found(find: () => string | undefined, name: string): Promise<string> {
  if (find() === undefined) await installPackage(name);
  const file = find();
  if (file === undefined) throw new Error(`${name} is not to be found after its installation`);
  return file;
}

/** A user and its group by name, from passwd(5), for what must not run as root; undefined when we are nobody special. */
export async function plainUser(name: string): Promise<PlainUser | undefined> {
  if (process.geteuid?.() !== 0) return undefined;
  const line = (await readFile('/etc/passwd', 'utf8')).split('\n').find((text) => text.startsWith(`${name}:`));
  const [, , uid, gid] = line?.split(':') ?? [];
  if (uid === undefined || gid === undefined) throw new Error(`there is no user ${name}`);
  return { name, uid: Number(uid), gid: Number(gid) };
}

export interface PlainUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

const policy = '/usr/sbin/policy-rc.d';
const clusters = '/etc/postgresql-common/createcluster.conf';

/** Programs alone: no service is started, and no database made (invoke-rc.d(8), pg_createcluster(1)). */
async function installPackage(name: string): Promise<void> {
  if (process.geteuid?.() !== 0) throw new Error(`${name} is missing: apt-get install ${name}`);
  const ownPolicy = !existsSync(policy);
  if (ownPolicy) await writeFile(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    if (name === 'postgresql' && !existsSync(clusters)) {
      await mkdir(dirname(clusters), { recursive: true });
      await writeFile(clusters, 'create_main_cluster = false\n');
    }
    const quietly = { DEBIAN_FRONTEND: 'noninteractive' };
    await install('apt-get', ['update', '-qq'], quietly);
    await install('apt-get', ['install', '-y', '-qq', '--no-install-recommends', '-o', 'Dpkg::Options::=--force-confold', name], quietly);
  } finally {
    if (ownPolicy) await rm(policy);
  }
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
