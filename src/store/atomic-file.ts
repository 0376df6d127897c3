import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, openSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** What makes an atomic write also survive a power cut: the folder's entry is on disk, too. */
function syncFolder(path: string): void {
  const folder = openSync(path, 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/** Writes a synced temporary file beside `path`, hands it to `place`, and leaves nothing of it behind. */
function viaTemporary(path: string, data: string | Uint8Array, mode: number, place: (temporary: string) => void): void {
  const temporary = join(dirname(path), `.${randomBytes(8).toString('hex')}.tmp`);
  const file = openSync(temporary, 'wx', mode);
  try {
    try {
      writeFileSync(file, data);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    place(temporary);
  } catch (error) {
    unlinkSync(temporary);
    throw error;
  }
  syncFolder(dirname(path));
}

/** Replaces `path` at once and durably: a reader, or a crash, sees the old content or the new, whole. */
export function replaceFile(path: string, data: string | Uint8Array, mode = 0o600): void {
  viaTemporary(path, data, mode, (temporary) => {
    renameSync(temporary, path);
  });
}

/** As replaceFile, but makes the file only if it is not there yet: false if it was. */
export function createFile(path: string, data: string | Uint8Array, mode = 0o600): boolean {
  try {
    viaTemporary(path, data, mode, (temporary) => {
      // Unlike rename, link fails if the name is taken: of two writers one wins.
      linkSync(temporary, path);
      unlinkSync(temporary);
    });
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}
