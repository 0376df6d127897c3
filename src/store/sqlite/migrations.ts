import type { DatabaseSync } from 'node:sqlite';
import { SignetError } from '../../base/errors.ts';
import { integer } from './row.ts';

/**
 * Migration n takes the schema from version n to n + 1. What has been released is never edited: add another.
 *
 * `issued` is append-shaped: it has no index but its rowid, because each keyed insert in a transaction of few rows writes
 * a page of its own. Its indexes are the three tables below it, filled in large sorted batches (issued-index.ts).
 * Their keys are hashes or prefixes of 48 bits; every hit is verified against the row.
 */
const migrations: readonly string[] = [
  `
  CREATE TABLE issued (
    id INTEGER PRIMARY KEY,
    serial BLOB NOT NULL,
    spiffe_id TEXT NOT NULL,
    instance TEXT NOT NULL,
    origin INTEGER NOT NULL,
    spki_sha256 BLOB NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    issued_at INTEGER NOT NULL,
    trust_generation INTEGER NOT NULL,
    token_seen_at INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE issued_origin (
    id INTEGER PRIMARY KEY,
    issuer TEXT NOT NULL,
    authority TEXT NOT NULL,
    issuer_key_id TEXT NOT NULL,
    authenticated_by TEXT NOT NULL,
    key_mode TEXT NOT NULL,
    UNIQUE (issuer, authority, issuer_key_id, authenticated_by, key_mode)
  ) STRICT;
  CREATE TABLE issued_by_serial (prefix INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (prefix, id)) STRICT, WITHOUT ROWID;
  CREATE TABLE issued_by_bearer (
    identity INTEGER NOT NULL,
    instance INTEGER NOT NULL,
    id INTEGER NOT NULL,
    PRIMARY KEY (identity, instance, id)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE issued_by_end (not_after INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (not_after, id)) STRICT, WITHOUT ROWID;
  CREATE TABLE issued_mark (one INTEGER PRIMARY KEY CHECK (one = 1), indexed_to INTEGER NOT NULL, newest INTEGER, seed INTEGER NOT NULL) STRICT;
  INSERT INTO issued_mark VALUES (1, 0, NULL, random() & 0x7fffffff);

  CREATE TABLE binding (
    spiffe_id TEXT NOT NULL,
    instance TEXT NOT NULL,
    issuer TEXT NOT NULL,
    spki_sha256 TEXT NOT NULL,
    csr BLOB NOT NULL,
    key_file TEXT NOT NULL,
    bound_at INTEGER NOT NULL,
    key_ends INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    PRIMARY KEY (spiffe_id, instance)
  ) STRICT;
  CREATE TABLE trust (name TEXT PRIMARY KEY, epoch INTEGER NOT NULL, value BLOB NOT NULL) STRICT;
  CREATE TABLE denial (spiffe_id TEXT PRIMARY KEY, at INTEGER NOT NULL, reason TEXT NOT NULL) STRICT;
  CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
  ) STRICT;
  CREATE TABLE acknowledged (
    spiffe_id TEXT NOT NULL,
    instance TEXT NOT NULL,
    generation INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (spiffe_id, instance)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE change (sequence INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, key TEXT NOT NULL) STRICT;
  `,
];

/**
 * Brings the schema up to the newest version, each step in a transaction with its own version number, so that a crash
 * leaves a whole version. Throws STORE_MISMATCH for a schema newer than this program knows.
 */
export function migrate(db: DatabaseSync, steps: readonly string[] = migrations): void {
  const found = integer(db.prepare('PRAGMA user_version').get() ?? {}, 'user_version');
  if (found > steps.length) {
    throw new SignetError(
      'STORE_MISMATCH',
      `the database was written by a newer Signet (schema ${String(found)}; this one knows up to ${String(steps.length)}): run that version or newer`,
    );
  }
  for (let version = found; version < steps.length; version++) {
    db.exec('BEGIN IMMEDIATE');
    try {
      db.exec(steps[version] ?? '');
      // user_version lives in the database header: it is part of the transaction.
      db.exec(`PRAGMA user_version = ${String(version + 1)}`);
      db.exec('COMMIT');
    } catch (error) {
      if (db.isTransaction) db.exec('ROLLBACK');
      throw error;
    }
  }
}
