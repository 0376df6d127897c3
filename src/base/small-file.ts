import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { SignetError } from './errors.ts';

/**
 * Reads a small regular file whole. The size is bounded by what is read, not by what stat said, and anything but a
 * regular file is refused: a FIFO would hang us. Throws TOO_LARGE or the file system's error.
 */
export async function readSmallFile(path: string, limit: number): Promise<Buffer> {
  // O_NONBLOCK, in case the name is a FIFO's: opening it must not wait for a writer.
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if (!(await handle.stat()).isFile()) throw new SignetError('INVALID_ARGUMENT', `${path} is not a regular file`);
    const buffer = Buffer.alloc(limit + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length, null);
      length += bytesRead;
      if (length > limit) throw new SignetError('TOO_LARGE', `${path} is longer than ${limit} bytes`);
      if (bytesRead === 0) return Buffer.from(buffer.subarray(0, length));
    }
  } finally {
    await handle.close();
  }
}
