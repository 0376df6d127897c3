import type { DatabaseSync } from 'node:sqlite';
import type { Log } from '../../base/log.ts';
import type { IssuedRecord } from '../store.ts';
import { nameHash } from './name-hash.ts';
import { integer, optionalInteger, text } from './row.ts';

/** What the index needs to know of a record. */
export type IndexedFields = Pick<IssuedRecord, 'serial' | 'spiffeId' | 'instance' | 'notAfter' | 'issuedAt'>;

export interface IssuedIndex {
  /** Rows with larger ids aren't in the index tables: there are about twice `tailRows` of them at most. */
  readonly indexedTo: number;
  /** The time of the newest issuance ever committed. */
  readonly newest: number | undefined;
  /** Takes note of a committed record. */
  add(id: number, record: IndexedFields): void;
  tailId(serial: string): number | undefined;
  tailHas(spiffeId: string, instance: string): boolean;
  tailUnexpired(at: number): number;
  /** The keys of a bearer in issued_by_bearer. */
  bearerKeys(spiffeId: string, instance: string): readonly [identity: number, instance: number];
  /** Resolves when every row added so far is in the index tables. */
  settle(): Promise<void>;
  close(): void;
}

/** A row as keys: numbers alone sort and bind several times faster than text. */
interface Entry {
  readonly id: number;
  readonly serial: number;
  readonly identity: number;
  readonly instance: number;
  readonly notAfter: number;
}

/** Rows that the tables don't index yet. */
interface Tail {
  readonly entries: Entry[];
  readonly ids: Map<string, number>;
  readonly bearers: Set<string>;
}

/**
 * 8,192 rows sorted by key share pages of the index trees: figures in docs/adr/0001-store-interface.md. At the start of
 * the program at most twice as many rows are read again.
 */
const tailRows = 8192;
/** Rows per turn of the loop, about 2 ms: nobody's certificate waits for the index. */
const sliceRows = 256;

/** The first 48 bits: an integer that JavaScript holds exactly. */
export function serialKey(serial: string): number {
  return Number.parseInt(serial.slice(0, 12), 16);
}

// The store refuses a line feed in either half.
function bearerOf(spiffeId: string, instance: string): string {
  return `${spiffeId}\n${instance}`;
}

function emptyTail(): Tail {
  return { entries: [], ids: new Map(), bearers: new Set() };
}

/**
 * Keeps serial, bearer and end of every row findable while `issued` itself stays append-shaped: the newest rows in
 * memory, the rest in three tables filled in sorted batches. The mark moves only after all three have a batch, and
 * inserts are idempotent: a crash midway repeats the batch after the next start.
 */
export function openIssuedIndex(db: DatabaseSync, log: Log): IssuedIndex {
  const mark = db.prepare('SELECT indexed_to, newest, seed FROM issued_mark').get() ?? {};
  let indexedTo = integer(mark, 'indexed_to');
  let newest = optionalInteger(mark, 'newest');
  const seed = integer(mark, 'seed');
  let current = emptyTail();
  let settling: Tail | undefined;
  let running: Promise<void> | undefined;
  let closed = false;

  const bySerial = db.prepare('INSERT OR IGNORE INTO issued_by_serial VALUES (?, ?)');
  const byBearer = db.prepare('INSERT OR IGNORE INTO issued_by_bearer VALUES (?, ?, ?)');
  const byEnd = db.prepare('INSERT OR IGNORE INTO issued_by_end VALUES (?, ?)');
  const begin = db.prepare('BEGIN IMMEDIATE');
  const commit = db.prepare('COMMIT');
  const setMark = db.prepare('UPDATE issued_mark SET indexed_to = ?, newest = ?');
  const orders: readonly { compare: (a: Entry, b: Entry) => number; insert: (entry: Entry) => void }[] = [
    { compare: (a, b) => a.serial - b.serial, insert: (entry) => void bySerial.run(entry.serial, entry.id) },
    {
      compare: (a, b) => a.identity - b.identity || a.instance - b.instance,
      insert: (entry) => void byBearer.run(entry.identity, entry.instance, entry.id),
    },
    { compare: (a, b) => a.notAfter - b.notAfter, insert: (entry) => void byEnd.run(entry.notAfter, entry.id) },
  ];

  /** The index can be made again from the rows, so its own commits need no sync; the next commit of a caller brings one. */
  function transaction(work: () => void): void {
    try {
      begin.run();
      work();
      commit.run();
    } catch (error) {
      if (db.isTransaction) db.exec('ROLLBACK');
      throw error;
    }
  }

  async function index(tail: Tail): Promise<void> {
    const to = tail.entries.at(-1)?.id;
    if (to === undefined) return;
    for (const { compare, insert } of orders) {
      const sorted = tail.entries.toSorted(compare);
      for (let from = 0; from < sorted.length; from += sliceRows) {
        await new Promise((resolve) => setImmediate(resolve));
        if (closed) return;
        transaction(() => {
          sorted.slice(from, from + sliceRows).forEach(insert);
        });
      }
    }
    transaction(() => setMark.run(to, newest ?? null));
    indexedTo = to;
    settling = undefined;
  }

  async function settle(): Promise<void> {
    const to = current.entries.at(-1)?.id ?? settling?.entries.at(-1)?.id ?? indexedTo;
    while (!closed && indexedTo < to) {
      if (!settling) {
        settling = current;
        current = emptyTail();
      }
      running ??= index(settling).finally(() => {
        running = undefined;
      });
      await running;
    }
  }

  function bearerKeys(spiffeId: string, instance: string): readonly [number, number] {
    return [nameHash(spiffeId, seed), nameHash(instance, seed)];
  }

  function note(id: number, { serial, spiffeId, instance, notAfter, issuedAt }: IndexedFields): void {
    const [identity, ofInstance] = bearerKeys(spiffeId, instance);
    current.entries.push({ id, serial: serialKey(serial), identity, instance: ofInstance, notAfter });
    current.ids.set(serial, id);
    current.bearers.add(bearerOf(spiffeId, instance));
    newest = Math.max(newest ?? issuedAt, issuedAt);
  }

  const unindexed = db.prepare(
    'SELECT id, lower(hex(serial)) AS serial, spiffe_id, instance, not_after, issued_at FROM issued WHERE id > ? ORDER BY id',
  );
  for (const row of unindexed.iterate(indexedTo)) {
    note(integer(row, 'id'), {
      serial: text(row, 'serial'),
      spiffeId: text(row, 'spiffe_id'),
      instance: text(row, 'instance'),
      notAfter: integer(row, 'not_after'),
      issuedAt: integer(row, 'issued_at'),
    });
  }

  return {
    get indexedTo() {
      return indexedTo;
    },
    get newest() {
      return newest;
    },
    add(id, record) {
      note(id, record);
      if (current.entries.length % tailRows !== 0) return;
      // A failure leaves the rows where they are found without the tables; the next full tail tries again.
      settle().catch((error: unknown) => {
        log.warn({ err: error }, 'the index of issued certificates could not be written; it will be tried again');
      });
    },
    tailId: (serial) => current.ids.get(serial) ?? settling?.ids.get(serial),
    tailHas(spiffeId, instance) {
      const bearer = bearerOf(spiffeId, instance);
      return current.bearers.has(bearer) || (settling?.bearers.has(bearer) ?? false);
    },
    tailUnexpired(at) {
      const count = (tail: Tail | undefined): number => tail?.entries.reduce((n, { notAfter }) => n + (notAfter > at ? 1 : 0), 0) ?? 0;
      return count(current) + count(settling);
    },
    bearerKeys,
    settle,
    close() {
      closed = true;
    },
  };
}
