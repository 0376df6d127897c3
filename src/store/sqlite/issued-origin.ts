import type { DatabaseSync } from 'node:sqlite';
import { SignetError } from '../../base/errors.ts';
import type { IssuedRecord } from '../store.ts';
import { integer, text } from './row.ts';

/** The fields of a record that thousands of records have in common. */
type Origin = Pick<IssuedRecord, 'issuer' | 'authority' | 'issuerKeyId' | 'authenticatedBy' | 'keyMode'>;

export interface Origins {
  /** The number of this combination, made at once if it is new: never inside a transaction, which might roll back. */
  id(origin: Origin): number;
  read(id: number): Origin;
}

const authentications = ['token', 'certificate', 'external-certificate'] as const;
const keyModes = ['server', 'csr', 'agent', 'signed', 'intermediate'] as const;
/** Combinations are few; a cache larger than this would mean that they are not, and forgets all. */
const largestCache = 1000;

function oneOf<T extends string>(allowed: readonly T[], value: string): T {
  const found = allowed.find((one) => one === value);
  if (found === undefined) throw new SignetError('STORE_CORRUPT', 'the database holds a value of the wrong type; restore a backup');
  return found;
}

/** Each combination is written once and named by a number, which takes five columns of text out of every record. */
export function createOrigins(db: DatabaseSync): Origins {
  const insert = db.prepare(
    'INSERT OR IGNORE INTO issued_origin (issuer, authority, issuer_key_id, authenticated_by, key_mode) VALUES (?, ?, ?, ?, ?)',
  );
  const find = db.prepare(
    'SELECT id FROM issued_origin WHERE issuer = ? AND authority = ? AND issuer_key_id = ? AND authenticated_by = ? AND key_mode = ?',
  );
  const byId = db.prepare('SELECT * FROM issued_origin WHERE id = ?');
  const origins = new Map<number, Origin>();
  const ids = new Map<string, number>();

  function remember<K, V>(map: Map<K, V>, key: K, value: V): V {
    if (map.size >= largestCache) map.clear();
    map.set(key, value);
    return value;
  }

  return {
    id({ issuer, authority, issuerKeyId, authenticatedBy, keyMode }) {
      const key = JSON.stringify([issuer, authority, issuerKeyId, authenticatedBy, keyMode]);
      const known = ids.get(key);
      if (known !== undefined) return known;
      const columns = [issuer, authority, issuerKeyId, authenticatedBy, keyMode] as const;
      insert.run(...columns);
      return remember(ids, key, integer(find.get(...columns) ?? {}, 'id'));
    },
    read(id) {
      const known = origins.get(id);
      if (known) return known;
      const row = byId.get(id);
      if (!row) throw new SignetError('STORE_CORRUPT', 'a record in the database refers to a row that is not there; restore a backup');
      return remember(origins, id, {
        issuer: text(row, 'issuer'),
        authority: text(row, 'authority'),
        issuerKeyId: text(row, 'issuer_key_id'),
        authenticatedBy: oneOf(authentications, text(row, 'authenticated_by')),
        keyMode: oneOf(keyModes, text(row, 'key_mode')),
      });
    },
  };
}
