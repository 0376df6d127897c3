import type { Random } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';

export interface FairQueueLimits {
  /** How many may be inside at one time. */
  readonly concurrency: number;
  /** How many may wait, those who are urgent aside; a quarter of them under one key. */
  readonly queue: number;
  readonly waitMs: number;
}

export type ShedReason = 'queue-full' | 'identity-share' | 'waited-too-long';

export interface FairQueue {
  /**
   * Undefined where there is room, so that nothing is made or awaited then. Else resolves when it is this one's turn:
   * who is urgent first, then one of each key in rotation. Whoever has entered must leave. Rejects with OVERLOADED at once
   * if too many wait, or after `waitMs`; with the signal's reason as soon as that aborts.
   */
  enter(key: string, urgent: boolean, signal: AbortSignal): Promise<void> | undefined;
  leave(): void;
  readonly waiting: number;
}

interface Waiter {
  readonly key: string;
  readonly enter: () => void;
}

/** Bounds how much goes on at once, and how much may wait for it, so that load beyond what can be done costs no memory. */
export function createFairQueue(
  { concurrency, queue, waitMs }: FairQueueLimits,
  { random, shed }: { readonly random: Random; readonly shed: (reason: ShedReason) => void },
): FairQueue {
  const urgentOnes = createLanes();
  const others = createLanes();
  const share = Math.ceil(queue / 4);
  let inside = 0;

  function refuse(reason: ShedReason): SignetError {
    shed(reason);
    // Spread, so that those who were refused together don't come back together.
    const retryAfterMs = Math.round(1000 + 2000 * random());
    const why = reason === 'waited-too-long' ? 'the CA had no time for this certificate' : 'too many certificates are waiting for the CA';
    return new SignetError('OVERLOADED', `${why}: retry in ${String(retryAfterMs)} ms`, { retryAfterMs });
  }

  function wait(key: string, lanes: Lanes, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        key,
        enter() {
          release();
          resolve();
        },
      };
      const release = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
      };
      const giveUp = (reason: unknown): void => {
        release();
        lanes.remove(waiter);
        reject(SignetError.from(reason));
      };
      const onAbort = (): void => {
        giveUp(signal.reason);
      };
      const timer = setTimeout(() => {
        giveUp(refuse('waited-too-long'));
      }, waitMs);
      signal.addEventListener('abort', onAbort);
      lanes.add(waiter);
    });
  }

  return {
    enter(key, urgent, signal) {
      if (signal.aborted) return Promise.reject(SignetError.from(signal.reason));
      if (inside < concurrency) {
        inside++;
        return undefined;
      }
      if (urgent) return wait(key, urgentOnes, signal);
      if (others.size >= queue) return Promise.reject(refuse('queue-full'));
      if (others.sizeOf(key) >= share) return Promise.reject(refuse('identity-share'));
      return wait(key, others, signal);
    },
    leave() {
      const next = urgentOnes.next() ?? others.next();
      // The place passes on: the number of those inside stays as it is.
      if (next) next.enter();
      else inside--;
    },
    get waiting() {
      return urgentOnes.size + others.size;
    },
  };
}

interface Lanes {
  readonly size: number;
  sizeOf(key: string): number;
  add(waiter: Waiter): void;
  remove(waiter: Waiter): void;
  /** Takes out the one whose turn it is. */
  next(): Waiter | undefined;
}

/** One lane for each key, served in rotation: the first lane's first, and then that lane is the last. */
function createLanes(): Lanes {
  const lanes = new Map<string, Set<Waiter>>();
  let size = 0;

  function remove(waiter: Waiter): void {
    const lane = lanes.get(waiter.key);
    if (!lane?.delete(waiter)) return;
    size--;
    if (lane.size === 0) lanes.delete(waiter.key);
  }

  return {
    get size() {
      return size;
    },
    sizeOf: (key) => lanes.get(key)?.size ?? 0,
    add(waiter) {
      const lane = lanes.get(waiter.key);
      if (lane) lane.add(waiter);
      else lanes.set(waiter.key, new Set([waiter]));
      size++;
    },
    remove,
    next() {
      for (const [key, lane] of lanes) {
        for (const waiter of lane) {
          remove(waiter);
          if (lanes.delete(key)) lanes.set(key, lane);
          return waiter;
        }
      }
      return undefined;
    },
  };
}
