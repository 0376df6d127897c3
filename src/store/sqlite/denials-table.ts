import type { DatabaseSync } from 'node:sqlite';
import type { Store } from '../store.ts';
import type { ChangeFeed } from './change-feed.ts';
import { answer } from './failure.ts';
import type { GroupCommit } from './group-commit.ts';
import { integer, text } from './row.ts';

/** Identities that an operator stopped. The key of a change is the SPIFFE ID. */
export function createDenialsTable(db: DatabaseSync, commits: GroupCommit, changes: ChangeFeed): Store['denials'] {
  const list = db.prepare('SELECT * FROM denial ORDER BY spiffe_id');
  const put = db.prepare('INSERT OR REPLACE INTO denial VALUES (?, ?, ?)');
  const remove = db.prepare('DELETE FROM denial WHERE spiffe_id = ?');

  return {
    list: () =>
      answer(() => list.all().map((row) => ({ spiffeId: text(row, 'spiffe_id'), at: integer(row, 'at'), reason: text(row, 'reason') }))),
    put: ({ spiffeId, at, reason }) =>
      commits.write(() => {
        put.run(spiffeId, at, reason);
        changes.record('denials', spiffeId);
      }, changes.announce),
    delete: (spiffeId) =>
      commits.write(() => {
        const deleted = Number(remove.run(spiffeId).changes) > 0;
        if (deleted) changes.record('denials', spiffeId);
        return deleted;
      }, changes.announce),
  };
}
