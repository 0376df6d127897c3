import type { DatabaseSync } from 'node:sqlite';
import type { Acknowledgement, Store } from '../store.ts';
import { answer } from './failure.ts';
import type { GroupCommit } from './group-commit.ts';
import { integer, text } from './row.ts';

export interface AcknowledgedTable {
  readonly acknowledge: Store['acknowledge'];
  readonly acknowledged: Store['acknowledged'];
  /** Deletes what was acknowledged before `before` by bearers that `has` no longer knows. */
  prune(before: number, has: (spiffeId: string, instance: string) => boolean): Promise<void>;
}

const pruneRows = 500;

/** The highest trust generation that each (identity, instance) is known to hold. */
export function createAcknowledgedTable(db: DatabaseSync, commits: GroupCommit): AcknowledgedTable {
  const advance = db.prepare(
    `INSERT INTO acknowledged VALUES (?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET generation = excluded.generation, at = excluded.at WHERE excluded.generation > generation`,
  );
  const get = db.prepare('SELECT generation FROM acknowledged WHERE spiffe_id = ? AND instance = ?');
  const older = db.prepare(
    'SELECT spiffe_id, instance FROM acknowledged WHERE (spiffe_id, instance) > (?, ?) AND at < ? ORDER BY spiffe_id, instance LIMIT ?',
  );
  const remove = db.prepare('DELETE FROM acknowledged WHERE spiffe_id = ? AND instance = ?');

  return {
    acknowledge(batch) {
      // Neighbours share a page: a push to 10,000 streams comes back as batches of thousands.
      const sorted = batch.toSorted(byBearer);
      return commits.write(() => {
        for (const { spiffeId, instance, generation, at } of sorted) advance.run(spiffeId, instance, generation, at);
      });
    },
    acknowledged: (spiffeId, instance) =>
      answer(() => {
        const row = get.get(spiffeId, instance);
        return row && integer(row, 'generation');
      }),
    async prune(before, has) {
      let last: readonly [string, string] = ['', ''];
      for (;;) {
        const from = last;
        const rows = await commits.write(() => {
          const found = older.all(...from, before, pruneRows).map((row) => [text(row, 'spiffe_id'), text(row, 'instance')] as const);
          for (const bearer of found) if (!has(...bearer)) remove.run(...bearer);
          return found;
        });
        last = rows.at(-1) ?? last;
        if (rows.length < pruneRows) return;
      }
    },
  };
}

function byBearer(a: Acknowledgement, b: Acknowledgement): number {
  if (a.spiffeId !== b.spiffeId) return a.spiffeId < b.spiffeId ? -1 : 1;
  return a.instance < b.instance ? -1 : a.instance > b.instance ? 1 : 0;
}
