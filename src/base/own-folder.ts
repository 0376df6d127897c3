import { chmod, chown, lstat, mkdir } from 'node:fs/promises';
import { parse, sep } from 'node:path';
import { SignetError } from './errors.ts';

/** A folder whose mode is a lock: what is in it is for those who may enter. */
export interface OwnFolder {
  /** The setting that names it, for messages. */
  readonly setting: string;
  /** Absolute. */
  readonly folder: string;
  /** Who may enter: the owner alone, or also a group. */
  readonly mode: 0o700 | 0o750;
  /** The group of a folder of mode 0750; its own when undefined. */
  readonly gid?: number | undefined;
  /** What whoever may enter is then, for messages: `an operator`. */
  readonly entrant: string;
}

/** Makes the folder if it isn't there; the one above it must be. Throws CONFIG_INVALID. */
export async function makeOwnFolder({ setting, folder, mode, gid }: OwnFolder): Promise<void> {
  try {
    await mkdir(folder, { mode: 0o700 });
    if (gid !== undefined) await chown(folder, -1, gid);
    // What mkdir is told goes through the umask.
    await chmod(folder, mode);
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return;
    throw unusable(setting, folder, error);
  }
}

/** The folder is ours, and nobody enters who shouldn't. Throws CONFIG_INVALID. */
export async function checkOwnFolder({ setting, folder, mode, gid, entrant }: OwnFolder): Promise<void> {
  let stats;
  try {
    stats = await lstat(folder);
  } catch (error) {
    throw unusable(setting, folder, error);
  }
  if (!stats.isDirectory()) throw invalid(setting, `${folder} is not a folder`);
  const own = process.geteuid?.();
  if (own !== undefined && stats.uid !== own) {
    throw invalid(
      setting,
      `${folder} belongs to user ${String(stats.uid)}, not to the user ${String(own)} that runs Signet, and its owner would be ${entrant}: chown it, or choose another folder`,
    );
  }
  if ((stats.mode & 0o777 & ~mode) !== 0) {
    throw invalid(
      setting,
      `others may enter ${folder}, and whoever may is ${entrant}: chmod ${mode.toString(8).padStart(4, '0')} ${folder}, or choose another folder`,
    );
  }
  if (gid !== undefined && (stats.mode & 0o070) !== 0 && stats.gid !== gid) {
    throw invalid(setting, `${folder} is of group ${String(stats.gid)}, not ${String(gid)}: chgrp ${String(gid)} ${folder}`);
  }
}

/** A link on the way could be turned to a place of somebody else's, or make ours appear under another's name. Throws CONFIG_INVALID. */
export async function refuseLinksOnTheWay(setting: string, path: string): Promise<void> {
  const { root } = parse(path);
  const parts = path.slice(root.length).split(sep);
  for (let count = 1; count <= parts.length; count++) {
    const here = root + parts.slice(0, count).join(sep);
    const stats = await lstat(here).catch(() => undefined);
    if (!stats) return;
    if (stats.isSymbolicLink())
      throw invalid(setting, `${here} is a symbolic link, and this path may have none: give the path that it leads to, if it is yours`);
  }
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'the folder above it is not there',
  EACCES: 'no permission',
  EPERM: 'no permission',
  ENOTDIR: 'something above it is not a folder',
  EROFS: 'the file system is read-only',
};

function unusable(setting: string, folder: string, error: unknown): SignetError {
  const code = codeOf(error);
  return new SignetError('CONFIG_INVALID', `${setting}: ${folder} can't be made or looked at: ${reasons[code] ?? code}`, { cause: error });
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

function invalid(setting: string, what: string): SignetError {
  return new SignetError('CONFIG_INVALID', `${setting}: ${what}`);
}
