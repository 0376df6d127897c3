import type { Clock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { Store } from '../store.ts';
import { createAcknowledgedTable } from './acknowledged-table.ts';
import { createAuditTable } from './audit-table.ts';
import { createBindingsTable } from './bindings-table.ts';
import { createChangeFeed } from './change-feed.ts';
import { openDatabase } from './database.ts';
import { createDenialsTable } from './denials-table.ts';
import { openFailure, storeFailure } from './failure.ts';
import { createGroupCommit } from './group-commit.ts';
import { openIssuedTable } from './issued-table.ts';
import { createLeases } from './lease.ts';
import { createTrustTable } from './trust-table.ts';
import { createWalSync } from './wal-sync.ts';

export interface SqliteStoreOptions {
  readonly file: string;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * The store of one process, in one SQLite file that it holds exclusively until it is closed.
 * Throws STORE_LOCKED, STORE_CORRUPT, STORE_MISMATCH (a newer schema) or CONFIG_INVALID, each with advice.
 */
export async function openSqliteStore({ file, clock, log }: SqliteStoreOptions): Promise<Store> {
  const startedAt = clock.now();
  const db = await Promise.resolve(file).then(openDatabase);
  try {
    const commits = createGroupCommit(db, createWalSync(file));
    const changes = createChangeFeed(db);
    const leases = createLeases();
    const issued = openIssuedTable(db, commits, log);
    const acknowledged = createAcknowledgedTable(db, commits);
    log.debug({ file, ms: clock.now() - startedAt }, 'store opened');
    let closing: Promise<void> | undefined;

    return {
      appendIssued: issued.append,
      issued: issued.queries,
      bindings: createBindingsTable(db, commits, changes),
      trust: createTrustTable(db, commits, changes),
      denials: createDenialsTable(db, commits, changes),
      audit: createAuditTable(db, commits),
      acknowledge: acknowledged.acknowledge,
      acknowledged: acknowledged.acknowledged,
      changes: (since, signal) => changes.follow(since, signal),
      withLease: (name, fn, signal) => leases.with(name, fn, signal),
      async prune(endedBefore) {
        const pruned = await issued.prune(endedBefore);
        await acknowledged.prune(endedBefore, issued.has);
        return pruned;
      },
      close() {
        closing ??= new Promise((resolve) => {
          leases.close();
          changes.close();
          commits.close();
          issued.close();
          try {
            // Writes the log back into the database and gives up the lock.
            db.close();
          } catch (error) {
            throw storeFailure(error);
          }
          resolve();
        });
        return closing;
      },
    };
  } catch (error) {
    db.close();
    throw openFailure(error, file);
  }
}
