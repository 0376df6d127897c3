import type { DatabaseSync } from 'node:sqlite';
import type { Store } from '../store.ts';
import type { ChangeFeed } from './change-feed.ts';
import { answer } from './failure.ts';
import type { GroupCommit } from './group-commit.ts';
import { blob, integer } from './row.ts';

/** Named documents, each with an epoch that counts its writes: CA state, trust generations. The key of a change is the name. */
export function createTrustTable(db: DatabaseSync, commits: GroupCommit, changes: ChangeFeed): Store['trust'] {
  const get = db.prepare('SELECT epoch, value FROM trust WHERE name = ?');
  const insert = db.prepare('INSERT OR IGNORE INTO trust VALUES (?, 1, ?)');
  const update = db.prepare('UPDATE trust SET epoch = epoch + 1, value = ? WHERE name = ? AND epoch = ?');

  return {
    read: (name) =>
      answer(() => {
        const row = get.get(name);
        return row && { epoch: integer(row, 'epoch'), value: blob(row, 'value') };
      }),
    compareAndSet: (name, expected, value) =>
      commits.write(() => {
        const { changes: written } = expected === 0 ? insert.run(name, value) : update.run(value, name, expected);
        const won = Number(written) > 0;
        if (won) changes.record('trust', name);
        return won;
      }, changes.announce),
  };
}
