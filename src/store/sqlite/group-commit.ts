import type { DatabaseSync } from 'node:sqlite';
import { SignetError } from '../../base/errors.ts';
import { storeFailure } from './failure.ts';
import type { WalSync } from './wal-sync.ts';

export interface GroupCommit {
  /**
   * Runs `work` in the transaction that all writes of this turn of the event loop share, and resolves with its result
   * once that is durable. `work` may run twice, so it changes nothing but the database; what must follow a commit
   * goes into `committed`, which runs before any caller of the batch sees its promise resolve.
   */
  write<T>(work: () => T, committed?: (result: T) => void): Promise<T>;
  /** Commits and syncs what is waiting, at once; every later write is refused. */
  close(): void;
}

interface Waiting {
  /** Runs the work and keeps its result for `settle`. */
  readonly run: () => void;
  readonly settle: () => void;
  readonly fail: (error: unknown) => void;
}

/** What a write may wait for company, where there is some. */
const gatherMs = 2;

/**
 * One commit and one sync for everything that was written while the one before was on its way to the disk: a slow disk
 * makes larger batches, not a longer queue. The first attempt runs a batch plainly; only when some work throws is it
 * rolled back and run again with a savepoint around each, so that one caller's bad row fails alone.
 */
export function createGroupCommit(db: DatabaseSync, wal: WalSync): GroupCommit {
  const begin = db.prepare('BEGIN IMMEDIATE');
  const commit = db.prepare('COMMIT');
  let queue: Waiting[] = [];
  let scheduled: (() => void) | undefined;
  /** Committed, and being synced: nobody has been told yet. */
  let syncing: readonly Waiting[] | undefined;
  /** Whether the last commit was of several writes: then more are on their way, and a moment's wait saves a sync. */
  let crowded = false;
  let closed = false;
  let broken: unknown;

  function schedule(): void {
    if (scheduled || syncing) return;
    if (crowded) {
      const timer = setTimeout(flush, gatherMs);
      scheduled = () => {
        clearTimeout(timer);
      };
    } else {
      const immediate = setImmediate(flush);
      scheduled = () => {
        clearImmediate(immediate);
      };
    }
  }

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

  /** Those whose work was committed; the others have failed. */
  function apart(batch: readonly Waiting[]): readonly Waiting[] {
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
      return [];
    }
    return done;
  }

  function commitWaiting(): readonly Waiting[] {
    scheduled?.();
    scheduled = undefined;
    const batch = queue;
    queue = [];
    if (batch.length === 0) return [];
    crowded = batch.length > 1;
    return together(batch) ? batch : apart(batch);
  }

  function flush(): void {
    if (syncing) return;
    const done = commitWaiting();
    if (done.length === 0) return;
    syncing = done;
    wal.sync().then(
      () => {
        // Closed meanwhile: that synced and settled them.
        if (syncing !== done) return;
        syncing = undefined;
        for (const one of done) one.settle();
        if (queue.length > 0) schedule();
      },
      (error: unknown) => {
        if (syncing !== done) return;
        syncing = undefined;
        fail(done, error);
      },
    );
  }

  /** After a failed sync nobody knows what is on the disk, and a second one may wrongly succeed: nothing is written any more. */
  function fail(done: readonly Waiting[], error: unknown): void {
    broken = error;
    closed = true;
    for (const one of [...done, ...queue]) one.fail(error);
    queue = [];
  }

  return {
    write(work, committed) {
      if (broken !== undefined) return Promise.reject(storeFailure(broken));
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
        schedule();
      });
    },
    close() {
      if (closed) return;
      closed = true;
      const done = [...(syncing ?? []), ...commitWaiting()];
      syncing = undefined;
      try {
        wal.close();
      } catch (error) {
        fail(done, error);
        return;
      }
      for (const one of done) one.settle();
    },
  };
}
