import { setTimeout as sleep } from 'node:timers/promises';
import { backoffMs } from '../base/backoff.ts';
import type { BackoffLimits } from '../base/backoff.ts';
import type { Random } from '../base/clock.ts';

export interface WorkList {
  /** Something about this key has changed: it is looked at, once, however often it is named meanwhile. */
  touch(key: string): void;
  /** After so many ms. */
  touchLater(key: string, ms: number): void;
  /** Resolves when nothing is at work any more; the signal must have been aborted. */
  settled(): Promise<void>;
}

export interface WorkListParts {
  /** Looks at one key and does what is needed; never at one key twice at the same time. What it throws is tried again, later. */
  readonly look: (key: string, signal: AbortSignal) => Promise<void>;
  readonly failed: (key: string, error: unknown) => void;
  readonly atOnce: number;
  readonly retry: BackoffLimits;
  readonly random: Random;
}

/** Keys whose state is compared with what it should be: each at its turn, a bounded number at once. Ends with the signal. */
export function createWorkList(parts: WorkListParts, signal: AbortSignal): WorkList {
  const waiting = new Set<string>();
  const busy = new Map<string, Promise<void>>();
  const failures = new Map<string, number>();
  const delayed = new Set<Promise<void>>();

  function next(): void {
    for (const key of waiting) {
      if (signal.aborted || busy.size >= parts.atOnce) return;
      if (busy.has(key)) continue;
      waiting.delete(key);
      busy.set(key, work(key));
    }
  }

  async function work(key: string): Promise<void> {
    try {
      await parts.look(key, signal);
      failures.delete(key);
    } catch (error) {
      if (signal.aborted) return;
      parts.failed(key, error);
      const count = failures.get(key) ?? 0;
      failures.set(key, count + 1);
      touchLater(key, backoffMs(count, parts.retry, parts.random));
    } finally {
      busy.delete(key);
      // Not from within itself: the map must know this one as done first.
      queueMicrotask(next);
    }
  }

  function touchLater(key: string, ms: number): void {
    const waited: Promise<void> = sleep(ms, undefined, { signal, ref: false })
      .then(
        () => {
          touch(key);
        },
        () => undefined,
      )
      .finally(() => delayed.delete(waited));
    delayed.add(waited);
  }

  function touch(key: string): void {
    if (signal.aborted) return;
    waiting.add(key);
    next();
  }

  return {
    touch,
    touchLater,
    async settled() {
      await Promise.allSettled([...busy.values(), ...delayed]);
    },
  };
}
