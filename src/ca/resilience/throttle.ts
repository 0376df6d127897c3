import { backoffMs } from '../../base/backoff.ts';
import type { Random } from '../../base/clock.ts';

/**
 * What is known of a backend that said "too many requests": until when it is left alone, and how often in a row it said so.
 * Pure functions of the time.
 */
export interface Throttle {
  readonly until: number;
  /** Rounds of it, one after the other; what came while it was left alone already belongs to the round before. */
  readonly rounds: number;
}

/** What a CA asks for beyond this is not believed: nobody takes a fleet out for a day by one answer. */
const longestHoldMs = 60_000;
const holdWithoutHint = { baseMs: 500, maxMs: 30_000 };
/** Who was turned away comes back spread over this, and over twice as long with each further round. */
const firstSpreadMs = 500;
const longestSpreadMs = 30_000;

/** How much later than the end of the hold the last of those who were turned away comes back. */
function spreadMs({ rounds }: Throttle): number {
  return Math.min(longestSpreadMs, firstSpreadMs * 2 ** Math.min(rounds, 30));
}

/** The backend said it now, and perhaps for how long. */
export function throttled(before: Throttle | undefined, now: number, retryAfterMs: number | undefined, random: Random): Throttle {
  const sameRound = before !== undefined && now < before.until;
  const forgotten = before === undefined || now > before.until + spreadMs(before);
  const rounds = forgotten ? 1 : before.rounds + (sameRound ? 0 : 1);
  const holdMs = Math.min(longestHoldMs, retryAfterMs ?? backoffMs(rounds - 1, holdWithoutHint, random));
  return { until: Math.max(sameRound ? before.until : now, now + holdMs), rounds };
}

/** Until the hold ends; 0 if it has, or if the clock went back. */
export function holdLeftMs(throttle: Throttle | undefined, now: number): number {
  const left = throttle === undefined ? 0 : throttle.until - now;
  return left > longestHoldMs ? 0 : Math.max(0, left);
}

/** When one of those who are turned away may come back: each draws its own moment, so that they don't come together. */
export function comeBackMs(throttle: Throttle, now: number, random: Random): number {
  return Math.ceil(holdLeftMs(throttle, now) + spreadMs(throttle) * random());
}
