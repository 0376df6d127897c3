import { abortable, deadlineSignal } from '../base/deadline.ts';
import type { Log } from '../base/log.ts';
import type { Acknowledgement } from '../store/store.ts';

export interface AcknowledgedGenerations {
  /** To be written soon; of one bearer the newest counts. */
  add(key: string, entry: Acknowledgement): void;
  /** Resolves once all so far is durable; rejects as the write does. */
  flush(): Promise<void>;
  /** Stops retrying; what can still be written now is. */
  close(): Promise<void>;
}

/** A push is acknowledged by all within moments: gathered, so that a bearer's streams make one row, and off the push's way. */
const gatherMs = 100;
/** Rows are written this many at a time: a store in this process holds up the loop while it writes. */
const batchSize = 250;
const timeoutMs = 10_000;
const retryMs = 1_000;

/** Batches evidence to the store, one write at a time, and again after a failure. */
export function createAcknowledgedGenerations(
  write: (batch: readonly Acknowledgement[]) => Promise<void>,
  log: Log,
): AcknowledgedGenerations {
  const unwritten = new Map<string, Acknowledgement>();
  let writing: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  async function writeAll(): Promise<void> {
    clearTimeout(timer);
    timer = undefined;
    while (unwritten.size > 0) {
      const batch = new Map([...unwritten].slice(0, batchSize));
      for (const key of batch.keys()) unwritten.delete(key);
      try {
        await abortable(write([...batch.values()]), deadlineSignal(timeoutMs));
      } catch (error) {
        for (const [key, entry] of batch) {
          const newer = unwritten.get(key);
          if (!newer || newer.generation < entry.generation) unwritten.set(key, entry);
        }
        throw error;
      }
    }
  }

  function flush(): Promise<void> {
    writing ??= writeAll().finally(() => {
      writing = undefined;
    });
    return writing;
  }

  function writeIn(delayMs: number): void {
    if (closed) return;
    timer ??= setTimeout(() => {
      timer = undefined;
      flush().catch((error: unknown) => {
        log.warn({ err: error, bearers: unwritten.size }, 'acknowledged generations could not be recorded; trying again');
        writeIn(retryMs);
      });
    }, delayMs).unref();
  }

  return {
    add(key, entry) {
      unwritten.set(key, entry);
      writeIn(gatherMs);
    },
    async flush() {
      // What came while a write was under way is in its loop or in the next.
      await flush();
      if (unwritten.size > 0) await flush();
    },
    async close() {
      closed = true;
      clearTimeout(timer);
      await flush();
    },
  };
}
