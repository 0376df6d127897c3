import type { Random } from '../base/clock.ts';
import { takeToken } from '../base/token-bucket.ts';
import type { Bucket, BucketLimits } from '../base/token-bucket.ts';
import { createFairQueue } from './fair-queue.ts';
import type { FairQueue, ShedReason } from './fair-queue.ts';
import { createRateLimiter, rateLimited } from './rate-limiter.ts';

export interface IssuanceGateLimits {
  /** Per identity, over all of its instances. */
  readonly identityRate: BucketLimits;
  /** How many identities' rates are remembered; half of them for sure. */
  readonly rateEntries: number;
  /** Over all identities. */
  readonly totalRate: BucketLimits;
  /** Certificates in the making at one moment by the CA backend of this name. Of its own, so that one that hangs holds up no other. */
  readonly concurrency: (authority: string) => number;
  /** How many may wait for each backend, renewals of live streams aside. */
  readonly queue: number;
  readonly waitMs: number;
}

export const defaultIssuanceGateLimits: IssuanceGateLimits = {
  identityRate: { perSecond: 200, burst: 2000 },
  rateEntries: 50_000,
  totalRate: { perSecond: 2000, burst: 20_000 },
  concurrency: () => 512,
  queue: 1000,
  waitMs: 5000,
};

/** Why somebody was turned away, for metrics. */
export type TurnedAway = 'identity-rate' | 'total-rate' | ShedReason;

/**
 * What stands before the CA, whichever door a request came in by. A renewal of a live stream goes before a newcomer: it
 * waits in front, and may overdraw the rates by as much as their burst, which newcomers then wait for. So a herd of them
 * can't make a certificate that is in use run out.
 */
export interface IssuanceGate {
  /** Before the request is parsed: checking its signature is the dearest thing that a client can make us do. Throws RATE_LIMITED. */
  charge(identity: string, now: number, renewal: boolean): void;
  /** For work that makes no certificate itself, and has a rate of its own per identity. Throws RATE_LIMITED. */
  chargeTotal(now: number, renewal?: boolean): void;
  /** A place with this backend, as FairQueue gives it. */
  enter(authority: string, identity: string, renewal: boolean, signal: AbortSignal): Promise<void> | undefined;
  leave(authority: string): void;
  readonly waiting: number;
}

export function createIssuanceGate(deps: {
  readonly random: Random;
  readonly limits?: Partial<IssuanceGateLimits>;
  readonly turnedAway?: (reason: TurnedAway) => void;
}): IssuanceGate {
  const limits: IssuanceGateLimits = { ...defaultIssuanceGateLimits, ...deps.limits };
  const turnedAway = deps.turnedAway ?? (() => undefined);
  const byIdentity = createRateLimiter('certificates', limits.identityRate, limits.rateEntries);
  const queues = new Map<string, FairQueue>();
  let total: Bucket | undefined;

  function chargeTotal(now: number, renewal: boolean): void {
    const result = takeToken(total, limits.totalRate, now, renewal ? limits.totalRate.burst : 0);
    total = result.bucket;
    if (result.taken) return;
    turnedAway('total-rate');
    throw rateLimited('too many certificates are asked for', result.retryAfterMs);
  }

  function queueOf(authority: string): FairQueue {
    const known = queues.get(authority);
    if (known) return known;
    const queue = createFairQueue(
      { concurrency: limits.concurrency(authority), queue: limits.queue, waitMs: limits.waitMs },
      { random: deps.random, shed: turnedAway },
    );
    queues.set(authority, queue);
    return queue;
  }

  return {
    charge(identity, now, renewal) {
      // The identity's own first: who is over it takes nothing from the others.
      try {
        byIdentity.take(identity, now, renewal ? limits.identityRate.burst : 0);
      } catch (error) {
        turnedAway('identity-rate');
        throw error;
      }
      chargeTotal(now, renewal);
    },
    chargeTotal: (now, renewal = false) => {
      chargeTotal(now, renewal);
    },
    enter: (authority, identity, renewal, signal) => queueOf(authority).enter(identity, renewal, signal),
    leave(authority) {
      queueOf(authority).leave();
    },
    get waiting() {
      let sum = 0;
      for (const queue of queues.values()) sum += queue.waiting;
      return sum;
    },
  };
}
