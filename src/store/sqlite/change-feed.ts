import type { DatabaseSync } from 'node:sqlite';
import type { Change } from '../store.ts';
import { integer, text } from './row.ts';

export interface ChangeFeed {
  /** Notes a change, inside the transaction that makes it. */
  record(topic: Change['topic'], key: string): void;
  /** Wakes the followers, after a commit. */
  readonly announce: () => void;
  follow(since: number, signal: AbortSignal): AsyncGenerator<Change, void>;
  /** Ends all followers. */
  close(): void;
}

/** A follower further behind than this has restarted, and reads everything anyway. */
const keptChanges = 10_000;
const readAtOnce = 200;

const topics: readonly Change['topic'][] = ['trust', 'bindings', 'denials'];

/** Changes as a table, so that a sequence number means the same after a restart, and a wake-up within the process. */
export function createChangeFeed(db: DatabaseSync): ChangeFeed {
  const insert = db.prepare('INSERT INTO change (topic, key) VALUES (?, ?)');
  const trim = db.prepare('DELETE FROM change WHERE sequence <= ?');
  const newer = db.prepare('SELECT sequence, topic, key FROM change WHERE sequence > ? ORDER BY sequence LIMIT ?');
  const waiting = new Set<() => void>();
  let closed = false;

  function wake(): void {
    for (const resume of [...waiting]) resume();
  }

  /** Called in the same turn as a read that found nothing: no change can fall between the two. */
  async function more(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const resume = (): void => {
      resolve(undefined);
    };
    waiting.add(resume);
    signal.addEventListener('abort', resume, { once: true });
    await promise;
    waiting.delete(resume);
    signal.removeEventListener('abort', resume);
  }

  return {
    record(topic, key) {
      const sequence = Number(insert.run(topic, key).lastInsertRowid);
      trim.run(sequence - keptChanges);
    },
    announce: wake,
    async *follow(since, signal) {
      let last = since;
      while (!closed && !signal.aborted) {
        const rows = newer.all(last, readAtOnce);
        if (rows.length === 0) await more(signal);
        for (const row of rows) {
          const name = text(row, 'topic');
          const topic = topics.find((one) => one === name);
          last = integer(row, 'sequence');
          if (topic !== undefined) yield { sequence: last, topic, key: text(row, 'key') };
        }
      }
    },
    close() {
      closed = true;
      wake();
    },
  };
}
