import type { DatabaseSync } from 'node:sqlite';
import type { Store } from '../store.ts';
import { checkLimit, page, rowsBefore } from './cursor.ts';
import { answer } from './failure.ts';
import type { GroupCommit } from './group-commit.ts';
import { integer, text } from './row.ts';

/** Who did what, appended and never changed here; pruning of certificates leaves it alone. */
export function createAuditTable(db: DatabaseSync, commits: GroupCommit): Store['audit'] {
  const insert = db.prepare('INSERT INTO audit (at, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?)');
  const list = db.prepare('SELECT * FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?');

  return {
    append: (batch) =>
      commits.write(() => {
        for (const { at, actor, action, subject, detail } of batch) insert.run(at, actor, action, subject, detail);
      }),
    list: (limit, after) =>
      answer(() =>
        page(
          list.all(rowsBefore(after), checkLimit(limit) + 1),
          limit,
          (row) => ({
            at: integer(row, 'at'),
            actor: text(row, 'actor'),
            action: text(row, 'action'),
            subject: text(row, 'subject'),
            detail: text(row, 'detail'),
          }),
          (row) => String(integer(row, 'id')),
        ),
      ),
  };
}
