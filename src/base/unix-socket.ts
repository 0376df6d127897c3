import { lstat, unlink } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { dirname } from 'node:path';
import { SignetError } from './errors.ts';
import { checkOwnFolder, makeOwnFolder, refuseLinksOnTheWay } from './own-folder.ts';
import type { OwnFolder } from './own-folder.ts';

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
export async function makeSocketFolder(door: Door): Promise<void> {
  await makeOwnFolder(folderOf(door));
}

/** The folder is ours, and nobody enters who shouldn't. Throws CONFIG_INVALID. */
export async function checkSocketFolder(door: Door): Promise<void> {
  await checkOwnFolder(folderOf(door));
}

function folderOf({ setting, path, folderMode, gid, entrant }: Door): OwnFolder {
  return { setting, folder: dirname(path), mode: folderMode, gid, entrant };
}

/** A link on the way could be turned to somebody else's socket, or make ours appear under another's name. Throws CONFIG_INVALID. */
export async function refuseLinks({ setting, path }: Pick<Door, 'setting' | 'path'>): Promise<void> {
  await refuseLinksOnTheWay(setting, path);
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

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

function invalid(setting: string, what: string): SignetError {
  return new SignetError('CONFIG_INVALID', `${setting}: ${what}`);
}
