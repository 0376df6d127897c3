import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import type { DeadlineHeap } from '../../src/base/deadline-heap.ts';
import type { SimulatedClock } from './simulated-clock.ts';

const pending = new Set<Promise<unknown>>();
/** What hangs on purpose is waited for no longer than this. */
const longestWaitMs = 250;

/** The same object, whose promises `settle` waits for: a disk takes real time, whatever a simulated clock says. */
export function tracked<T extends object>(target: T): T {
  return new Proxy(target, {
    get(object, key): unknown {
      const value: unknown = Reflect.get(object, key);
      if (typeof value === 'object' && value !== null) return tracked(value);
      if (typeof value !== 'function') return value;
      return (...given: unknown[]): unknown => {
        const result: unknown = Reflect.apply(value, object, given);
        if (result instanceof Promise) {
          const done = result.then(
            () => undefined,
            () => undefined,
          );
          pending.add(done);
          void done.then(() => pending.delete(done));
        }
        return result;
      };
    },
  });
}

/** Lets everything that is under way and needs no more simulated time come to its end. */
export async function settle(): Promise<void> {
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 20; i++) await turn();
    await sleep(1);
    while (pending.size > 0) {
      const before = pending.size;
      await Promise.race([Promise.all(pending), sleep(longestWaitMs)]);
      if (pending.size >= before) return;
    }
  }
}

const mostWaits = 20;

/**
 * Lets simulated time pass, from deadline to deadline, each one's work done before the next. Work that came due plans its
 * successor when it is done, so waiting ends when there are as many deadlines as before, or none came for a while.
 */
export async function passTime(world: { readonly clock: SimulatedClock; readonly heap: DeadlineHeap }, ms: number): Promise<void> {
  const { clock, heap } = world;
  const end = clock.now() + ms;
  await settle();
  for (;;) {
    const next = heap.runDue();
    if (next === undefined || next > end) break;
    const planned = heap.size;
    clock.set(Math.max(Math.ceil(next), clock.now()));
    heap.runDue();
    for (let waits = 0; waits < mostWaits; waits++) {
      await settle();
      if (heap.size >= planned) break;
    }
  }
  clock.set(Math.max(end, clock.now()));
}
