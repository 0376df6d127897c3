import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { SignetError } from '../base/errors.ts';
import { readSmallFile } from '../base/small-file.ts';
import { replaceFile } from '../store/atomic-file.ts';
import type { KeyAlgorithm, KeyPair } from '../x509/keys.ts';
import { generateKeyPair, importKeyPair, privateKeyPem } from '../x509/keys.ts';

/**
 * The folder of one workload instance's keys, beside its Envoy: `<hex SHA-256 of SPKI>.key`, 0600, and a record of what
 * each is to us. Only files on that record are ever removed: the folder may hold other people's too.
 */
export interface KeyFolder {
  /** The key that the server has bound, if any. */
  bound(): HeldKey | undefined;
  /** A key that was made, but no answer came: the server may have bound it, so it is offered again and never dropped. */
  unanswered(): HeldKey | undefined;
  /** A new key, durable on disk when it returns. */
  make(algorithm: KeyAlgorithm): HeldKey;
  /** Throws the file system's error, or INVALID_ARGUMENT if the file holds another key than its name says. */
  load(key: HeldKey): Promise<KeyPair>;
  /** The server bound it: every other key is superseded from now on. */
  markBound(key: HeldKey, keyEnds: number): void;
  /** Forgets a key and removes its file: the server refused it, or the file is gone. */
  drop(key: HeldKey): Promise<void>;
  /** Removes keys superseded before `before` (ms); returns their files. */
  removeSuperseded(before: number): Promise<readonly string[]>;
  fileOf(key: HeldKey): string;
  close(): void;
}

export interface HeldKey {
  readonly spkiSha256: string;
  /** ms since the epoch */
  readonly madeAt: number;
  /** When the server stops signing for it, in ms since the epoch; 0 unless bound. */
  readonly keyEnds: number;
}

const recordName = 'signet-csr.db';
const largestKey = 16 * 1024;
const columns = 'spki_sha256 AS spkiSha256, made_at AS madeAt, key_ends AS keyEnds';

/** Makes the folder (0700) if it is not there. Throws STORE_LOCKED while another `signet csr` works in it. */
export async function openKeyFolder(directory: string, now: () => number): Promise<KeyFolder> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const db = openRecord(join(directory, recordName));
  const fileOf = (key: HeldKey): string => join(directory, `${key.spkiSha256}.key`);
  const newestIn = (state: string): HeldKey | undefined =>
    heldKey(db.prepare(`SELECT ${columns} FROM key WHERE state = ? ORDER BY at DESC, rowid DESC LIMIT 1`).get(state));
  const drop = async (key: HeldKey): Promise<void> => {
    // The file first: a record that forgot a key would leave it lying around for ever.
    await rm(fileOf(key), { force: true });
    db.prepare('DELETE FROM key WHERE spki_sha256 = ?').run(key.spkiSha256);
  };
  return {
    bound: () => newestIn('bound'),
    unanswered: () => newestIn('made'),
    make(algorithm) {
      const { privateKey, spkiSha256 } = generateKeyPair(algorithm);
      const key: HeldKey = { spkiSha256, madeAt: now(), keyEnds: 0 };
      // On record before it is on disk, so that no crash leaves a private key that nobody answers for.
      db.prepare("INSERT INTO key (spki_sha256, state, at, made_at, key_ends) VALUES (?, 'made', ?, ?, 0)").run(
        spkiSha256,
        key.madeAt,
        key.madeAt,
      );
      replaceFile(fileOf(key), privateKeyPem(privateKey), 0o600);
      return key;
    },
    async load(key) {
      const pair = importKeyPair((await readSmallFile(fileOf(key), largestKey)).toString('latin1'));
      if (pair.spkiSha256 === key.spkiSha256) return pair;
      throw new SignetError('INVALID_ARGUMENT', `${fileOf(key)} holds another key than its name says`);
    },
    markBound(key, keyEnds) {
      const at = now();
      db.exec('BEGIN');
      db.prepare("UPDATE key SET state = 'superseded', at = ? WHERE state <> 'superseded' AND spki_sha256 <> ?").run(at, key.spkiSha256);
      db.prepare("UPDATE key SET state = 'bound', at = ?, key_ends = ? WHERE spki_sha256 = ?").run(at, keyEnds, key.spkiSha256);
      db.exec('COMMIT');
    },
    drop,
    async removeSuperseded(before) {
      const old = db
        .prepare(`SELECT ${columns} FROM key WHERE state = 'superseded' AND at < ?`)
        .all(before)
        .flatMap((row) => heldKey(row) ?? []);
      for (const key of old) await drop(key);
      return old.map(fileOf);
    },
    fileOf,
    close: () => {
      db.close();
    },
  };
}

/**
 * SQLite for its lock alone would do: it is held until the process ends, however that comes about. Two `signet csr` in one
 * folder would each take the other's bound key for superseded, and remove it in the end.
 */
function openRecord(file: string): DatabaseSync {
  const db = new DatabaseSync(file, { timeout: 0 });
  try {
    db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL; BEGIN EXCLUSIVE');
    db.exec(
      'CREATE TABLE IF NOT EXISTS key (spki_sha256 TEXT PRIMARY KEY, state TEXT NOT NULL, at INTEGER NOT NULL, made_at INTEGER NOT NULL, key_ends INTEGER NOT NULL) STRICT; COMMIT',
    );
    return db;
  } catch (error) {
    db.close();
    const busy = error instanceof Error && 'errcode' in error && (error.errcode === 5 || error.errcode === 6);
    if (busy)
      throw new SignetError(
        'STORE_LOCKED',
        `another \`signet csr\` works in this folder: give each workload instance a folder of its own`,
        { cause: error },
      );
    throw new SignetError('STORE_CORRUPT', `${file} can't be read: move it away; the keys that it listed then stay until you remove them`, {
      cause: error,
    });
  }
}

function heldKey(row: Readonly<Record<string, unknown>> | undefined): HeldKey | undefined {
  if (!row) return undefined;
  const { spkiSha256, madeAt, keyEnds } = row;
  // It becomes a file's name: whatever wrote the record, nothing outside the folder is touched.
  if (typeof spkiSha256 !== 'string' || !/^[0-9a-f]{64}$/.test(spkiSha256)) return undefined;
  return { spkiSha256, madeAt: Number(madeAt), keyEnds: Number(keyEnds) };
}
