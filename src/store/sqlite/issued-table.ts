import type { DatabaseSync } from 'node:sqlite';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { IssuedQuery, IssuedRecord, Page, Store } from '../store.ts';
import { checkLimit, page, rowsBefore } from './cursor.ts';
import { answer, storeFailure } from './failure.ts';
import type { GroupCommit } from './group-commit.ts';
import { openIssuedIndex, serialKey } from './issued-index.ts';
import { createOrigins } from './issued-origin.ts';
import { blob, integer, text } from './row.ts';
import type { Row } from './row.ts';

export interface IssuedTable {
  readonly append: Store['appendIssued'];
  readonly queries: Store['issued'];
  /** Deletes rows whose certificate ended before then; their number. */
  prune(endedBefore: number): Promise<number>;
  /** Whether a committed row of this bearer is there. Synchronous, for use inside a transaction. */
  readonly has: (spiffeId: string, instance: string) => boolean;
  close(): void;
}

const pruneRows = 500;
/** RFC 5280 §4.1.2.2: at most 20 octets. */
const serialPattern = /^(?:[0-9a-f]{2}){1,20}$/;
const sha256Pattern = /^[0-9a-f]{64}$/;

function hex(text: string): Buffer {
  return Buffer.from(text, 'hex');
}

function checkRecord(record: IssuedRecord): void {
  if (!serialPattern.test(record.serial) || !sha256Pattern.test(record.spkiSha256)) {
    throw new SignetError('INVALID_ARGUMENT', 'a serial is 1 to 20 bytes and a key hash 32 bytes of lower-case hex');
  }
  if (record.spiffeId === '' || record.spiffeId.includes('\n') || record.instance.includes('\n')) {
    throw new SignetError('INVALID_ARGUMENT', 'an identity or instance is empty or has a line feed');
  }
}

export function openIssuedTable(db: DatabaseSync, commits: GroupCommit, log: Log): IssuedTable {
  const index = openIssuedIndex(db, log);
  const origins = createOrigins(db);
  // Ids are given here and never again: a mark or cursor must not come to mean another row after a prune.
  let lastId = Math.max(index.indexedTo, integer(db.prepare('SELECT coalesce(max(id), 0) AS id FROM issued').get() ?? {}, 'id'));
  /** Serials waiting for their commit: neither in a table nor in the tail yet. */
  const reserved = new Set<string>();

  const insert = db.prepare('INSERT INTO issued VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)');
  const byId = db.prepare('SELECT * FROM issued WHERE id = ?');
  // Most serials and many bearers are new, and numbers alone say so.
  const anyWithPrefix = db.prepare('SELECT 1 FROM issued_by_serial WHERE prefix = ? LIMIT 1');
  const anyWithKeys = db.prepare('SELECT 1 FROM issued_by_bearer WHERE identity = ? AND instance = ? LIMIT 1');
  const idBySerial = db.prepare('SELECT i.id FROM issued_by_serial s JOIN issued i ON i.id = s.id WHERE s.prefix = ? AND i.serial = ?');
  const anyOfBearer = db.prepare(
    'SELECT 1 FROM issued_by_bearer b JOIN issued i ON i.id = b.id WHERE b.identity = ? AND b.instance = ? AND i.spiffe_id = ? AND i.instance = ? LIMIT 1',
  );
  const countByEnd = db.prepare('SELECT count(*) AS n FROM issued_by_end WHERE not_after > ? AND id <= ?');

  function idOf(serial: string): number | undefined {
    const inTail = index.tailId(serial);
    if (inTail !== undefined) return inTail;
    const key = serialKey(serial);
    if (anyWithPrefix.get(key) === undefined) return undefined;
    const row = idBySerial.get(key, hex(serial));
    return row && integer(row, 'id');
  }

  function has(spiffeId: string, instance: string): boolean {
    if (index.tailHas(spiffeId, instance)) return true;
    const keys = index.bearerKeys(spiffeId, instance);
    if (anyWithKeys.get(...keys) === undefined) return false;
    return anyOfBearer.get(...keys, spiffeId, instance) !== undefined;
  }

  function record(row: Row): IssuedRecord {
    return {
      serial: blob(row, 'serial').toString('hex'),
      spiffeId: text(row, 'spiffe_id'),
      instance: text(row, 'instance'),
      ...origins.read(integer(row, 'origin')),
      spkiSha256: blob(row, 'spki_sha256').toString('hex'),
      notBefore: integer(row, 'not_before'),
      notAfter: integer(row, 'not_after'),
      issuedAt: integer(row, 'issued_at'),
      trustGeneration: integer(row, 'trust_generation'),
      tokenSeenAt: integer(row, 'token_seen_at'),
    };
  }

  function reserve(batch: readonly IssuedRecord[]): void {
    const taken: string[] = [];
    try {
      for (const one of batch) {
        checkRecord(one);
        if (reserved.has(one.serial) || idOf(one.serial) !== undefined) {
          // Ours are 128 random bits: only somebody else's CA gives one twice (RFC 5280 §4.1.2.2), or an old certificate again.
          throw new SignetError('AUTHORITY_MISBEHAVED', 'a certificate with this serial is on record already');
        }
        reserved.add(one.serial);
        taken.push(one.serial);
      }
    } catch (error) {
      for (const serial of taken) reserved.delete(serial);
      throw error;
    }
  }

  async function append(batch: readonly IssuedRecord[]): Promise<void> {
    if (batch.length === 0) return;
    reserve(batch);
    try {
      const rows = batch.map((one) => ({ one, origin: origins.id(one), serial: hex(one.serial), spki: hex(one.spkiSha256) }));
      await commits.write(
        () => {
          const first = lastId + 1;
          for (const { one, origin, serial, spki } of rows) {
            const { spiffeId, instance, notBefore, notAfter, issuedAt, trustGeneration, tokenSeenAt } = one;
            insert.run(++lastId, serial, spiffeId, instance, origin, spki, notBefore, notAfter, issuedAt, trustGeneration, tokenSeenAt);
          }
          return first;
        },
        (first) => {
          batch.forEach((one, i) => {
            index.add(first + i, one);
          });
        },
      );
    } catch (error) {
      throw storeFailure(error);
    } finally {
      for (const { serial } of batch) reserved.delete(serial);
    }
  }

  /** At most `limit` rows with ids in (above, below), newest first, by the narrowest table that the query allows. */
  function select(query: IssuedQuery, above: number, below: number, indexed: boolean, limit: number): Row[] {
    const conditions = ['i.id > :above', 'i.id < :below'];
    const parameters: Record<string, number | string> = { above, below, limit };
    let from = 'issued i';
    if (query.spiffeId !== undefined) {
      conditions.push('i.spiffe_id = :spiffeId');
      parameters['spiffeId'] = query.spiffeId;
    }
    if (query.instance !== undefined) {
      conditions.push('i.instance = :instance');
      parameters['instance'] = query.instance;
    }
    if (query.unexpiredAt !== undefined) {
      conditions.push('i.not_after > :unexpiredAt');
      parameters['unexpiredAt'] = query.unexpiredAt;
    }
    if (indexed && query.spiffeId !== undefined) {
      // CROSS JOIN keeps SQLite from turning the join around (https://www.sqlite.org/optoverview.html#crossjoin).
      from = 'issued_by_bearer k CROSS JOIN issued i ON i.id = k.id';
      conditions.push('k.identity = :identity', 'k.id > :above', 'k.id < :below');
      const [identity, instance] = index.bearerKeys(query.spiffeId, query.instance ?? '');
      parameters['identity'] = identity;
      if (query.instance !== undefined) {
        conditions.push('k.instance = :instanceKey');
        parameters['instanceKey'] = instance;
      }
    } else if (indexed && query.unexpiredAt !== undefined) {
      from = 'issued_by_end k CROSS JOIN issued i ON i.id = k.id';
      conditions.push('k.not_after > :unexpiredAt', 'k.id > :above', 'k.id < :below');
    }
    const order = from === 'issued i' ? 'i.id' : 'k.id';
    return db.prepare(`SELECT i.* FROM ${from} WHERE ${conditions.join(' AND ')} ORDER BY ${order} DESC LIMIT :limit`).all(parameters);
  }

  function list(query: IssuedQuery): Page<IssuedRecord> {
    const limit = checkLimit(query.limit);
    const below = rowsBefore(query.after);
    const rows = select(query, index.indexedTo, below, false, limit + 1);
    if (rows.length <= limit) rows.push(...select(query, 0, Math.min(below, index.indexedTo + 1), true, limit + 1 - rows.length));
    return page(rows, limit, record, (row) => String(integer(row, 'id')));
  }

  const ended = db.prepare(
    'SELECT k.not_after, k.id, lower(hex(i.serial)) AS serial, i.spiffe_id, i.instance FROM issued_by_end k JOIN issued i ON i.id = k.id WHERE k.not_after < ? AND k.id <= ? ORDER BY k.not_after LIMIT ?',
  );
  const deleteRow = db.prepare('DELETE FROM issued WHERE id = ?');
  const deleteSerial = db.prepare('DELETE FROM issued_by_serial WHERE prefix = ? AND id = ?');
  const deleteBearer = db.prepare('DELETE FROM issued_by_bearer WHERE identity = ? AND instance = ? AND id = ?');
  const deleteEnd = db.prepare('DELETE FROM issued_by_end WHERE not_after = ? AND id = ?');

  function pruneSome(endedBefore: number): number {
    const rows = ended.all(endedBefore, index.indexedTo, pruneRows);
    for (const row of rows) {
      const id = integer(row, 'id');
      deleteRow.run(id);
      deleteSerial.run(serialKey(text(row, 'serial')), id);
      deleteBearer.run(...index.bearerKeys(text(row, 'spiffe_id'), text(row, 'instance')), id);
      deleteEnd.run(integer(row, 'not_after'), id);
    }
    return rows.length;
  }

  return {
    append,
    has,
    queries: {
      get: (serial) =>
        answer(() => {
          const id = serialPattern.test(serial) ? idOf(serial) : undefined;
          const row = id === undefined ? undefined : byId.get(id);
          return row && record(row);
        }),
      list: (query) => answer(() => list(query)),
      newest: () => answer(() => index.newest),
      countUnexpired: (at) => answer(() => integer(countByEnd.get(at, index.indexedTo) ?? {}, 'n') + index.tailUnexpired(at)),
      any: (spiffeId, instance) => answer(() => has(spiffeId, instance)),
    },
    async prune(endedBefore) {
      await index.settle();
      let total = 0;
      for (;;) {
        const deleted = await commits.write(() => pruneSome(endedBefore));
        total += deleted;
        if (deleted < pruneRows) return total;
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
    close() {
      index.close();
    },
  };
}
