import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import type { DeadlineHeap } from '../../src/base/deadline-heap.ts';
import type { SimulatedClock } from './simulated-clock.ts';

/** Lets everything that is under way and needs no more time come to its end: some turns of the loop. */
export async function settle(): Promise<void> {
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 20; i++) await turn();
    await sleep(1);
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
