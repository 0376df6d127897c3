import type { DatabaseSync } from 'node:sqlite';
import { SignetError } from '../../base/errors.ts';
import { storeFailure } from './failure.ts';

export interface GroupCommit {
  /**
   * Runs `work` in the transaction that all writes of this turn of the event loop share, and resolves with its result
   * once that is durable. `work` may run twice, so it changes nothing but the database; what must follow a commit
   * goes into `committed`, which runs before any caller of the batch sees its promise resolve.
   */
  write<T>(work: () => T, committed?: (result: T) => void): Promise<T>;
  /** Commits what is waiting, now. */
  flush(): void;
  /** Flushes; every later write is refused. */
  close(): void;
}

interface Waiting {
  /** Runs the work and keeps its result for `settle`. */
  readonly run: () => void;
  readonly settle: () => void;
  readonly fail: (error: unknown) => void;
}

/**
 * One fsync for everything that a turn of the loop wrote. The first attempt runs all of it plainly; only when some work
 * throws is the batch rolled back and run again with a savepoint around each, so that one caller's bad row fails alone.
 */
export function createGroupCommit(db: DatabaseSync): GroupCommit {
  const begin = db.prepare('BEGIN IMMEDIATE');
  const commit = db.prepare('COMMIT');
  let queue: Waiting[] = [];
  let scheduled: NodeJS.Immediate | undefined;
  let closed = false;

  function rollback(): void {
    // A full disk or an I/O error has rolled back already.
    if (db.isTransaction) db.exec('ROLLBACK');
  }

  function together(batch: readonly Waiting[]): boolean {
    try {
      begin.run();
      for (const { run } of batch) run();
      commit.run();
      return true;
    } catch {
      rollback();
      return false;
    }
  }

  function apart(batch: readonly Waiting[]): void {
    const done: Waiting[] = [];
    try {
      begin.run();
      for (const one of batch) {
        db.exec('SAVEPOINT caller');
        try {
          one.run();
          db.exec('RELEASE caller');
          done.push(one);
        } catch (error) {
          // Without a transaction there is nothing left to save: the whole batch fails below.
          if (!db.isTransaction) throw error;
          db.exec('ROLLBACK TO caller; RELEASE caller');
          one.fail(error);
        }
      }
      commit.run();
    } catch (error) {
      rollback();
      for (const one of batch) one.fail(error);
      return;
    }
    for (const one of done) one.settle();
  }

  function flush(): void {
    if (scheduled) clearImmediate(scheduled);
    scheduled = undefined;
    if (queue.length === 0) return;
    const batch = queue;
    queue = [];
    if (together(batch)) for (const one of batch) one.settle();
    else apart(batch);
  }

  return {
    write(work, committed) {
      if (closed) return Promise.reject(new SignetError('CANCELLED', 'the store is closed'));
      return new Promise((resolve, reject) => {
        let result: ReturnType<typeof work>;
        queue.push({
          run: () => {
            result = work();
          },
          settle: () => {
            try {
              committed?.(result);
              resolve(result);
            } catch (error) {
              reject(storeFailure(error));
            }
          },
          fail: (error) => {
            reject(storeFailure(error));
          },
        });
        scheduled ??= setImmediate(flush);
      });
    },
    flush,
    close() {
      flush();
      closed = true;
    },
  };
}
