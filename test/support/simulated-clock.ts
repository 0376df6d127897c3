import type { Clock } from '../../src/base/clock.ts';

export interface SimulatedClock extends Clock {
  advance(ms: number): void;
  set(now: number): void;
}

/** Time that moves only when told to. */
export function simulatedClock(start = Date.UTC(2026, 0, 1)): SimulatedClock {
  let now = start;
  return {
    now: () => now,
    advance: (ms) => {
      now += ms;
    },
    set: (to) => {
      now = to;
    },
  };
}
