import { lstatSync, unlinkSync } from 'node:fs';
import { SignetError } from '../base/errors.ts';

/**
 * Removes the socket that a killed server left behind; false if there was none. Only the holder of the store's lock may
 * call it: to anybody else a socket that looks stale may be a running server's. Never removes anything but a socket;
 * throws CONFIG_INVALID instead.
 */
export function removeStaleSocket(path: string): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) return false;
  if (!found.isSocket()) {
    throw new SignetError('CONFIG_INVALID', `${path} is in the way of the admin socket and is not a socket: move it elsewhere`);
  }
  unlinkSync(path);
  return true;
}
