import { randomBytes } from 'node:crypto';
import { chmod, chown, lstat, mkdtemp, open, readdir, readlink, rename, rm, symlink, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { SignetError } from '../../base/errors.ts';
import { checkOwnFolder, makeOwnFolder, refuseLinksOnTheWay } from '../../base/own-folder.ts';
import type { OwnFolder } from '../../base/own-folder.ts';

/** One file of a generation. Secret ones are for the owner and the folder's group alone. */
export interface GenerationFile {
  /** A plain name: no slash, no dot at its start. */
  readonly name: string;
  readonly content: string | Buffer;
  readonly secret: boolean;
}

/**
 * A folder of files that change together, laid out as the kubelet lays out a mounted Secret:
 *
 *     ..gen-Xa4f1k/tls.crt, tls.key, ...   a generation: written once, never changed
 *     ..data -> ..gen-Xa4f1k               which one is in force; replaced by one rename
 *     tls.crt -> ..data/tls.crt            what servers are configured with
 */
export interface GenerationFolder {
  /** Makes a new generation the one in force, durable before it is visible. On an error, or a crash, the old one stays whole. */
  replace(files: readonly GenerationFile[], signal: AbortSignal): Promise<void>;
  /** Removes every generation but the one in force, and names that are no longer written. */
  clean(): Promise<void>;
}

const current = '..data';
const generationPrefix = '..gen-';
const nextPrefix = '..next-';

/** Makes the folder if it isn't there, and checks that it is ours and what is in it. Throws CONFIG_INVALID. */
export async function openGenerationFolder(own: OwnFolder, names: readonly string[]): Promise<GenerationFolder> {
  const { setting, folder, mode, gid } = own;
  await refuseLinksOnTheWay(setting, folder);
  await makeOwnFolder(own);
  // Once more, with the folder there: what wasn't there at first could have become a link.
  await refuseLinksOnTheWay(setting, folder);
  await checkOwnFolder(own);
  for (const name of names) {
    const there = await linkTarget(join(folder, name));
    if (there !== undefined && there !== `${current}/${name}`)
      throw new SignetError('CONFIG_INVALID', `${setting}: ${join(folder, name)} is there already and is not ours: move it away`);
  }

  async function replace(files: readonly GenerationFile[], signal: AbortSignal): Promise<void> {
    const generation = await mkdtemp(join(folder, generationPrefix));
    try {
      for (const file of files) {
        signal.throwIfAborted();
        await writeDurably(join(generation, file.name), file, gid);
      }
      if (gid !== undefined) await chown(generation, -1, gid);
      await chmod(generation, mode);
      await syncFolder(generation);
      // Before the first swap these lead nowhere: all names appear at once, by the swap.
      for (const { name } of files) await ensureLink(join(folder, name), `${current}/${name}`);
      signal.throwIfAborted();
      const next = join(folder, `${nextPrefix}${randomBytes(8).toString('hex')}`);
      await symlink(generation.slice(folder.length + 1), next);
      await rename(next, join(folder, current));
      await syncFolder(folder);
    } catch (error) {
      // After a swap whose sync failed it is the one in force, and stays.
      if ((await linkTarget(join(folder, current))) !== generation.slice(folder.length + 1))
        await rm(generation, { recursive: true, force: true });
      throw error;
    }
  }

  async function clean(): Promise<void> {
    const inForce = await linkTarget(join(folder, current));
    for (const entry of await readdir(folder)) {
      const path = join(folder, entry);
      if (entry.startsWith(generationPrefix) && entry !== inForce) await rm(path, { recursive: true, force: true });
      else if (entry.startsWith(nextPrefix)) await rm(path, { force: true });
      else if (!names.includes(entry) && (await linkTarget(path)) === `${current}/${entry}`) await unlink(path);
    }
  }

  return { replace, clean };
}

/** Of a symbolic link; undefined where there is nothing, and '' for anything else. */
async function linkTarget(path: string): Promise<string | undefined> {
  const stats = await lstat(path).catch(() => undefined);
  if (!stats) return undefined;
  return stats.isSymbolicLink() ? await readlink(path) : '';
}

async function ensureLink(path: string, target: string): Promise<void> {
  const there = await linkTarget(path);
  if (there === target) return;
  if (there !== undefined) throw new SignetError('CONFIG_INVALID', `${path} was replaced by something that is not ours: move it away`);
  await symlink(target, path);
}

async function writeDurably(path: string, { content, secret }: GenerationFile, gid: number | undefined): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(content);
    if (gid !== undefined) await file.chown(process.geteuid?.() ?? -1, gid);
    await file.chmod(secret ? (gid === undefined ? 0o600 : 0o640) : 0o644);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** What makes a rename survive a power cut: the folder's entry is on disk, too. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
