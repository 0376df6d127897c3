import { SignetError } from '../base/errors.ts';
import { takeToken } from '../base/token-bucket.ts';
import type { Bucket, BucketLimits } from '../base/token-bucket.ts';

export interface RateLimiter {
  /** Throws RATE_LIMITED with when to come back. `overdraft` as in `takeToken`. */
  take(key: string, now: number, overdraft?: number): void;
  readonly size: number;
}

/**
 * A token bucket per key, at most `entries` of them. The least recently used is forgotten first: it has had the longest
 * time to refill, so forgetting gives away as little as can be.
 */
export function createRateLimiter(what: string, limits: BucketLimits, entries: number): RateLimiter {
  const buckets = new Map<string, Bucket>();
  return {
    take(key, now, overdraft) {
      const result = takeToken(buckets.get(key), limits, now, overdraft);
      buckets.delete(key);
      buckets.set(key, result.bucket);
      if (buckets.size > entries) {
        const oldest = buckets.keys().next();
        if (!oldest.done) buckets.delete(oldest.value);
      }
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
