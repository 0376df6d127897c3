import { open } from 'node:fs/promises';
import { SignetError } from '../base/errors.ts';

const largestBytes = 4 * 1024 * 1024;
const stableAfterMs = 100;
const mostReads = 20;

interface Read {
  readonly content: Buffer;
  /** Nothing was written since it was put in its place: it can't be half of something. */
  readonly whole: boolean;
}

/** The whole file, its size checked first. Throws INVALID_ARGUMENT saying what is wrong, without its content. */
export async function readRootsFile(path: string, signal: AbortSignal): Promise<Buffer> {
  return (await read(path, signal)).content;
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
    const stat = await file.stat({ bigint: true });
    const size = Number(stat.size);
    if (!stat.isFile()) throw new SignetError('INVALID_ARGUMENT', 'is not a regular file');
    if (size > largestBytes) throw new SignetError('INVALID_ARGUMENT', `is larger than ${String(largestBytes)} bytes`);
    const buffer = Buffer.alloc(size + 1);
    const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
    if (bytesRead > size) throw new SignetError('INVALID_ARGUMENT', 'grows while it is read');
    // A write sets both times alike; a rename moves the second one on (stat(2), rename(2)).
    return { content: buffer.subarray(0, bytesRead), whole: stat.ctimeNs > stat.mtimeNs };
  } finally {
    await file.close();
  }
}

/**
 * What the file holds now, or undefined if that is what is `known`. A file that was moved into its place is taken as it
 * is. Any other is read until two reads, a moment apart, agree: half of a file that is being rewritten in place is often
 * a valid PEM file with some of its roots missing. `wait` resolves after so many ms.
 */
export async function readChanged(
  path: string,
  known: Buffer | undefined,
  signal: AbortSignal,
  wait: (ms: number) => Promise<void>,
): Promise<Buffer | undefined> {
  const unlessKnown = (content: Buffer): Buffer | undefined => (known?.equals(content) ? undefined : content);
  const first = await read(path, signal);
  if (first.whole || known?.equals(first.content)) return unlessKnown(first.content);
  let before = first.content;
  for (let reads = 1; reads < mostReads; reads++) {
    await wait(stableAfterMs);
    const now = await readRootsFile(path, signal);
    if (now.equals(before)) return unlessKnown(now);
    before = now;
  }
  throw new SignetError('INVALID_ARGUMENT', 'does not stop changing');
}

function systemCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown';
}
