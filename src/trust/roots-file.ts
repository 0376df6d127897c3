import { open } from 'node:fs/promises';
import { SignetError } from '../base/errors.ts';

const largestBytes = 4 * 1024 * 1024;
const stableAfterMs = 100;
const mostReads = 20;

/** The whole file, its size checked first. Throws INVALID_ARGUMENT saying what is wrong, without its content. */
export async function readRootsFile(path: string, signal: AbortSignal): Promise<Buffer> {
  signal.throwIfAborted();
  let file;
  try {
    file = await open(path, 'r');
  } catch (error) {
    throw new SignetError('INVALID_ARGUMENT', `cannot be read (${systemCode(error)})`, { cause: error });
  }
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw new SignetError('INVALID_ARGUMENT', 'is not a regular file');
    if (stat.size > largestBytes) throw new SignetError('INVALID_ARGUMENT', `is larger than ${String(largestBytes)} bytes`);
    const buffer = Buffer.alloc(stat.size + 1);
    const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
    if (bytesRead > stat.size) throw new SignetError('INVALID_ARGUMENT', 'grows while it is read');
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

/**
 * Reads until two reads, a moment apart, agree: half of a file that is being rewritten in place is often a valid PEM
 * file with some of its roots missing. `wait` resolves after so many ms.
 */
export async function readStable(path: string, signal: AbortSignal, wait: (ms: number) => Promise<void>): Promise<Buffer> {
  let before = await readRootsFile(path, signal);
  for (let reads = 1; reads < mostReads; reads++) {
    await wait(stableAfterMs);
    const now = await readRootsFile(path, signal);
    if (now.equals(before)) return now;
    before = now;
  }
  throw new SignetError('INVALID_ARGUMENT', 'does not stop changing');
}

function systemCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown';
}
