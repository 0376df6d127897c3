import { chmod, chown, lstat, mkdir, unlink } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { dirname, parse, sep } from 'node:path';
import { SignetError } from './errors.ts';
import { listenError } from './listen-error.ts';

/** sun_path of sockaddr_un holds 108 bytes with its final NUL (unix(7)). */
export const longestSocketPath = 107;

/** A unix socket and its folder, which is the door: whoever may enter it may speak to whoever listens. */
export interface Door {
  /** The setting that names it, for messages. */
  readonly setting: string;
  /** Absolute. */
  readonly path: string;
  /** Who may enter: the owner alone, or also a group. */
  readonly folderMode: 0o700 | 0o750;
  /** The group of a folder of mode 0750; its own when undefined. */
  readonly gid?: number | undefined;
  /** What whoever may enter is then, for messages: `an operator`. */
  readonly entrant: string;
}

/** The path fits into the system's. Throws CONFIG_INVALID. */
export function checkSocketPath({ setting, path }: Pick<Door, 'setting' | 'path'>): void {
  const size = Buffer.byteLength(path);
  if (size <= longestSocketPath) return;
  throw invalid(
    setting,
    `a unix socket's path has at most ${String(longestSocketPath)} bytes, ${path} has ${String(size)}: choose a shorter one`,
  );
}

/** Makes the folder if it isn't there; the one above it must be. Throws CONFIG_INVALID. */
export async function makeSocketFolder({ setting, path, folderMode, gid }: Door): Promise<void> {
  const folder = dirname(path);
  try {
    await mkdir(folder, { mode: 0o700 });
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return;
    throw listenError(setting, folder, error);
  }
  try {
    if (gid !== undefined) await chown(folder, -1, gid);
    // What mkdir is told goes through the umask.
    await chmod(folder, folderMode);
  } catch (error) {
    throw listenError(setting, folder, error);
  }
}

/** The folder is ours, and nobody enters who shouldn't. Throws CONFIG_INVALID. */
export async function checkSocketFolder({ setting, path, folderMode, gid, entrant }: Door): Promise<void> {
  const folder = dirname(path);
  let stats;
  try {
    stats = await lstat(folder);
  } catch (error) {
    throw listenError(setting, folder, error);
  }
  if (!stats.isDirectory()) throw invalid(setting, `${folder} is not a folder`);
  const own = process.geteuid?.();
  if (own !== undefined && stats.uid !== own) {
    throw invalid(
      setting,
      `${folder} belongs to user ${String(stats.uid)}, not to the user ${String(own)} that runs Signet, and its owner would be ${entrant}: chown it, or choose another folder`,
    );
  }
  const allowed = octal(folderMode);
  if ((stats.mode & 0o777 & ~folderMode) !== 0) {
    throw invalid(
      setting,
      `others may enter ${folder}, and whoever may is ${entrant}: chmod ${allowed} ${folder}, or choose another folder`,
    );
  }
  if (gid !== undefined && (stats.mode & 0o070) !== 0 && stats.gid !== gid) {
    throw invalid(setting, `${folder} is of group ${String(stats.gid)}, not ${String(gid)}: chgrp ${String(gid)} ${folder}`);
  }
}

/** A link on the way could be turned to somebody else's socket, or make ours appear under another's name. Throws CONFIG_INVALID. */
export async function refuseLinks({ setting, path }: Pick<Door, 'setting' | 'path'>): Promise<void> {
  const { root } = parse(path);
  const parts = path.slice(root.length).split(sep);
  for (let count = 1; count <= parts.length; count++) {
    const here = root + parts.slice(0, count).join(sep);
    const stats = await lstat(here).catch(() => undefined);
    if (!stats) return;
    if (stats.isSymbolicLink())
      throw invalid(setting, `${here} is a symbolic link, and a socket's path has none: give the path that it leads to, if it is yours`);
  }
}

/** Removes a socket that nobody answers on, left over from a process that died. Anything else stays. Throws CONFIG_INVALID. */
export async function removeStaleSocket({ setting, path }: Pick<Door, 'setting' | 'path'>): Promise<void> {
  const stats = await lstat(path).catch(() => undefined);
  if (!stats) return;
  if (!stats.isSocket()) throw invalid(setting, `${path} is there already and is no socket`);
  if (await answers(path)) throw invalid(setting, `another server answers at ${path}`);
  await unlink(path);
}

const probeMs = 1000;

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ path, timeout: probeMs });
    const settle = (answer: boolean) => () => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', settle(true));
    // A full backlog takes no connection, but somebody is there.
    socket.once('timeout', settle(true));
    // Neither is a socket that we may not ask one that nobody answers on.
    socket.once('error', (error) => {
      settle(codeOf(error) !== 'ECONNREFUSED' && codeOf(error) !== 'ENOENT')();
    });
  });
}

function octal(mode: number): string {
  return mode.toString(8).padStart(4, '0');
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

function invalid(setting: string, what: string): SignetError {
  return new SignetError('CONFIG_INVALID', `${setting}: ${what}`);
}
