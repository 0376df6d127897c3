import type { DatabaseSync } from 'node:sqlite';
import type { Binding, Store } from '../store.ts';
import type { ChangeFeed } from './change-feed.ts';
import { checkLimit, page, pairAfter, pairCursor } from './cursor.ts';
import { answer } from './failure.ts';
import type { GroupCommit } from './group-commit.ts';
import { blob, integer, text } from './row.ts';
import type { Row } from './row.ts';

function binding(row: Row): Binding {
  return {
    spiffeId: text(row, 'spiffe_id'),
    instance: text(row, 'instance'),
    issuer: text(row, 'issuer'),
    spkiSha256: text(row, 'spki_sha256'),
    csr: blob(row, 'csr'),
    keyFile: text(row, 'key_file'),
    boundAt: integer(row, 'bound_at'),
    keyEnds: integer(row, 'key_ends'),
    lastUsedAt: integer(row, 'last_used_at'),
  };
}

/** Which key each (identity, instance) has bound. The key of a change is `<SPIFFE ID> <instance>`. */
export function createBindingsTable(db: DatabaseSync, commits: GroupCommit, changes: ChangeFeed): Store['bindings'] {
  const get = db.prepare('SELECT * FROM binding WHERE spiffe_id = ? AND instance = ?');
  const put = db.prepare('INSERT OR REPLACE INTO binding VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)');
  const remove = db.prepare('DELETE FROM binding WHERE spiffe_id = ? AND instance = ?');
  const list = db.prepare('SELECT * FROM binding WHERE (spiffe_id, instance) > (?, ?) ORDER BY spiffe_id, instance LIMIT ?');

  return {
    get: (spiffeId, instance) =>
      answer(() => {
        const row = get.get(spiffeId, instance);
        return row && binding(row);
      }),
    put: ({ spiffeId, instance, issuer, spkiSha256, csr, keyFile, boundAt, keyEnds, lastUsedAt }) =>
      commits.write(() => {
        put.run(spiffeId, instance, issuer, spkiSha256, csr, keyFile, boundAt, keyEnds, lastUsedAt);
        changes.record('bindings', `${spiffeId} ${instance}`);
      }, changes.announce),
    delete: (spiffeId, instance) =>
      commits.write(() => {
        const deleted = Number(remove.run(spiffeId, instance).changes) > 0;
        if (deleted) changes.record('bindings', `${spiffeId} ${instance}`);
        return deleted;
      }, changes.announce),
    list: (limit, after) =>
      answer(() => {
        const rows = list.all(...pairAfter(after), checkLimit(limit) + 1);
        return page(rows, limit, binding, (row) => pairCursor(text(row, 'spiffe_id'), text(row, 'instance')));
      }),
  };
}
