import { closeSync, fdatasync, fdatasyncSync, openSync } from 'node:fs';

export interface WalSync {
  /** Resolves once everything that was committed before the call is on the disk. */
  sync(): Promise<void>;
  /** The same, at once, and for the last time. */
  close(): void;
}

/**
 * Syncs the write-ahead log from libuv's pool, so that the event loop goes on while the disk works. SQLite syncs the log
 * itself before each checkpoint (https://www.sqlite.org/pragma.html#pragma_synchronous, NORMAL); what it leaves out, the
 * sync after each commit, is this. The log stays one file for as long as the database is open, and its descriptor holds
 * no lock: those are on the database file.
 */
export function createWalSync(databaseFile: string): WalSync {
  let descriptor: number | undefined;
  // The first commit makes the file.
  const opened = (): number => (descriptor ??= openSync(`${databaseFile}-wal`, 'r+'));

  return {
    sync: () =>
      new Promise((resolve, reject) => {
        fdatasync(opened(), (error) => {
          if (error) reject(error);
          else resolve();
        });
      }),
    close() {
      if (descriptor === undefined) return;
      try {
        fdatasyncSync(descriptor);
      } finally {
        closeSync(descriptor);
        descriptor = undefined;
      }
    },
  };
}
