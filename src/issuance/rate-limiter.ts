import { SignetError } from '../base/errors.ts';
import { createRecentMap } from '../base/recent-map.ts';
import { takeToken } from '../base/token-bucket.ts';
import type { Bucket, BucketLimits } from '../base/token-bucket.ts';

export interface RateLimiter {
  /** Throws RATE_LIMITED with when to come back. `overdraft` as in `takeToken`. */
  take(key: string, now: number, overdraft?: number): void;
  readonly size: number;
}

/**
 * A token bucket per key, at most `entries` of them. Those not used for long are forgotten, which have had the longest time
 * to refill; the half of that number that were used last never are.
 */
export function createRateLimiter(what: string, limits: BucketLimits, entries: number): RateLimiter {
  // A map of fewer holds nothing, and what is not remembered is not limited.
  const buckets = createRecentMap<Bucket>(Math.max(2, entries));
  return {
    take(key, now, overdraft) {
      const result = takeToken(buckets.get(key), limits, now, overdraft);
      buckets.set(key, result.bucket);
      if (!result.taken) throw rateLimited(`too many ${what} for this identity`, result.retryAfterMs);
    },
    get size() {
      return buckets.size;
    },
  };
}

export function rateLimited(what: string, retryAfterMs: number): SignetError {
  return new SignetError('RATE_LIMITED', `${what}: retry in ${String(retryAfterMs)} ms`, { retryAfterMs });
}
