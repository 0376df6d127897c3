import { mkdirSync, statSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Where compiled modules of this user's runs are kept. */
export function compileCacheFolder(env: Readonly<Record<string, string | undefined>>): string {
  return join(env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'signet', 'compiled');
}

/** Whether nobody but this user (and root) can put a file there. */
export function isOurs(folder: string): boolean {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const { uid, mode } = statSync(folder);
    return uid === process.geteuid?.() && (mode & 0o022) === 0;
  } catch {
    return false;
  }
}

/**
 * Takes compiled modules from the last start: a third of the work of this one. What is in the cache is run, so it is never
 * Node's default folder, a well-known one in /tmp where anybody could leave code for us; and where there is no folder
 * of our own (a read-only container, a user without a home) it is done without.
 */
export function useCompileCache(folder: string): void {
  if (isOurs(folder)) enableCompileCache(folder);
}
