import { open } from 'node:fs/promises';
import { SignetError } from '../base/errors.ts';

const largestBytes = 4 * 1024 * 1024;
const stableAfterMs = 100;
const mostReads = 20;

/** What a file held, and which one it was: a file that is replaced is another one by the same name. */
export interface RootsContent {
  readonly content: Buffer;
  readonly inode: bigint;
}

interface Read extends RootsContent {
  /** Nothing has been written since it was put in its place, as far as its times tell. */
  readonly untouched: boolean;
}

/** The whole file, its size checked first. Throws INVALID_ARGUMENT saying what is wrong, without its content. */
export async function readRootsFile(path: string, signal: AbortSignal): Promise<RootsContent> {
  return read(path, signal);
}

async function read(path: string, signal: AbortSignal): Promise<Read> {
  signal.throwIfAborted();
  let file;
  try {
    file = await open(path, 'r');
  } catch (error) {
    throw new SignetError('INVALID_ARGUMENT', `cannot be read (${systemCode(error)})`, { cause: error });
  }
  try {
    const before = await file.stat({ bigint: true });
    const size = Number(before.size);
    if (!before.isFile()) throw new SignetError('INVALID_ARGUMENT', 'is not a regular file');
    if (size > largestBytes) throw new SignetError('INVALID_ARGUMENT', `is larger than ${String(largestBytes)} bytes`);
    const buffer = Buffer.alloc(size + 1);
    const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
    if (bytesRead > size) throw new SignetError('INVALID_ARGUMENT', 'grows while it is read');
    const after = await file.stat({ bigint: true });
    // A write sets both times alike; a rename moves the second one on, and so do chmod and chown (stat(2), rename(2)).
    const untouched = bytesRead === size && after.ctimeNs > after.mtimeNs && after.ctimeNs === before.ctimeNs;
    return { content: buffer.subarray(0, bytesRead), inode: before.ino, untouched };
  } finally {
    await file.close();
  }
}

/** Another file than the known one that was moved into its place: it can't be half of something. Undefined if it isn't one. */
export async function readReplaced(path: string, known: RootsContent, signal: AbortSignal): Promise<RootsContent | undefined> {
  const found = await read(path, signal);
  return isReplaced(found, known) ? found : undefined;
}

/**
 * What the file holds now. One that holds what is known, or that was moved into its place, is taken as it is. Any other is
 * read until two reads, a moment apart, agree: half of a file that is being rewritten in place is often a valid PEM file
 * with some of its roots missing. `wait` resolves after so many ms.
 */
export async function readStable(
  path: string,
  known: RootsContent | undefined,
  signal: AbortSignal,
  wait: (ms: number) => Promise<void>,
): Promise<RootsContent> {
  let before = await read(path, signal);
  if (known?.content.equals(before.content) || isReplaced(before, known)) return before;
  for (let reads = 1; reads < mostReads; reads++) {
    await wait(stableAfterMs);
    const now = await read(path, signal);
    if (now.content.equals(before.content)) return now;
    before = now;
  }
  throw new SignetError('INVALID_ARGUMENT', 'does not stop changing');
}

function isReplaced(found: Read, known: RootsContent | undefined): boolean {
  return found.untouched && found.inode !== known?.inode;
}

function systemCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown';
}
