import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { SignetError } from '../base/errors.ts';

const largestBytes = 4 * 1024 * 1024;
const stableAfterMs = 100;
const mostReads = 20;

/** Reads one file of roots whole, its size checked first. Each throws INVALID_ARGUMENT saying what is wrong, without its content. */
export interface RootsReader {
  /** Whatever is there. */
  read(): Promise<Buffer>;
  /**
   * If another file than at the last read was moved into its place: such a one can't be half of something. Undefined if
   * there is none.
   */
  readReplaced(): Promise<Buffer | undefined>;
  /**
   * What holds what is `known`, or was moved into its place, as it is. Anything else is read until two reads, a moment apart,
   * agree: half of a file that is being rewritten in place is often a valid PEM file with some of its roots missing.
   */
  readStable(known: Buffer | undefined): Promise<Buffer>;
}

/** `wait` resolves after so many ms. */
export function createRootsReader(path: string, signal: AbortSignal, wait: (ms: number) => Promise<void>): RootsReader {
  /** Of the last read, whatever became of it: a file that has been seen may be being rewritten, also one that was refused. */
  let inode: bigint | undefined;

  async function readNext(): Promise<{ readonly content: Buffer; readonly replaced: boolean }> {
    const found = await read(path, signal);
    const replaced = found.untouched && found.inode !== inode;
    inode = found.inode;
    return { content: found.content, replaced };
  }

  return {
    async read() {
      return (await readNext()).content;
    },
    async readReplaced() {
      const { content, replaced } = await readNext();
      return replaced ? content : undefined;
    },
    async readStable(known) {
      const first = await readNext();
      if (first.replaced || known?.equals(first.content)) return first.content;
      let before = first.content;
      for (let reads = 1; reads < mostReads; reads++) {
        await wait(stableAfterMs);
        const { content } = await readNext();
        if (content.equals(before)) return content;
        before = content;
      }
      throw new SignetError('INVALID_ARGUMENT', 'does not stop changing');
    },
  };
}

interface Read {
  readonly content: Buffer;
  readonly inode: bigint;
  /** Nothing has been written since it was put in its place, as far as its times tell. */
  readonly untouched: boolean;
}

async function read(path: string, signal: AbortSignal): Promise<Read> {
  signal.throwIfAborted();
  let file;
  try {
    // O_NONBLOCK, in case the name is a FIFO's: opening it must not wait for a writer.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
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

function systemCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown';
}
