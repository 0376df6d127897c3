import { closeSync, openSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { damaged, openFailure } from './failure.ts';
import { migrate } from './migrations.ts';

/**
 * Opens the database, takes its lock for as long as it is open, checks it and brings its schema up to date.
 * Throws STORE_LOCKED, STORE_CORRUPT, STORE_MISMATCH (newer schema) or CONFIG_INVALID (can't be opened).
 *
 * Nothing else in this process may open the file: POSIX drops a process's locks when any descriptor of the file closes.
 */
export function openDatabase(file: string): DatabaseSync {
  let db: DatabaseSync | undefined;
  try {
    createPrivate(file);
    // No busy timeout: a second server must be told at once, not hang.
    db = new DatabaseSync(file, { timeout: 0, enableForeignKeyConstraints: false });
    takeLock(db);
    check(db, file);
    migrate(db);
    // From here on each commit is synced by wal-sync.ts, off the event loop, before anybody is told of it.
    db.exec('PRAGMA synchronous = NORMAL');
    return db;
  } catch (error) {
    db?.close();
    throw openFailure(error, file);
  }
}

/** SQLite would make it 0644 less umask, and gives its -wal file the mode of the database. */
function createPrivate(file: string): void {
  try {
    closeSync(openSync(file, 'wx', 0o600));
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  }
}

/**
 * In exclusive locking mode the lock of the first transaction is kept until the database closes. It comes before WAL is
 * switched on, so that no shared memory file is made and no other process can slip in between.
 */
function takeLock(db: DatabaseSync): void {
  db.exec('PRAGMA locking_mode = EXCLUSIVE');
  db.exec('BEGIN EXCLUSIVE; COMMIT');
  db.exec('PRAGMA journal_mode = WAL');
  db.exec('PRAGMA synchronous = FULL');
  // 16 MB of pages: the upper levels and the hot end of the tables.
  db.exec('PRAGMA cache_size = -16000');
  db.exec('PRAGMA trusted_schema = OFF');
}

/** 0.2 s for 200,000 certificates on record, 1.3 s for a million; worth it, as a damaged CA state must never be signed from. */
function check(db: DatabaseSync, file: string): void {
  const problems = db
    .prepare('PRAGMA quick_check(3)')
    .all()
    .map((row) => String(row['quick_check']));
  if (problems.length !== 1 || problems[0] !== 'ok') throw damaged(file, new Error(problems.join('; ')));
}
