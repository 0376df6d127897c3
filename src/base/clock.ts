/** Wall-clock time in milliseconds since the epoch: certificates and tokens end by it. */
export interface Clock {
  now(): number;
}

export const systemClock: Clock = { now: () => Date.now() };

/** A number in [0, 1), as Math.random gives. Injected, so that spreads and jitters can be replayed. */
export type Random = () => number;
