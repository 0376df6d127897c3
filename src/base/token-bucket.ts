/** A token bucket as plain data: `tokens` as of `at`; below zero for what was overdrawn. */
export interface Bucket {
  readonly tokens: number;
  readonly at: number;
  /** Until when the tokens to come are spoken for by those who were refused. */
  readonly promised: number;
}

export interface BucketLimits {
  readonly perSecond: number;
  readonly burst: number;
}

export type TakeResult =
  | { readonly taken: true; readonly bucket: Bucket }
  | { readonly taken: false; readonly bucket: Bucket; readonly retryAfterMs: number };

/** Nobody is sent away for longer only because many were before: they may never come back. */
const longestPromiseMs = 10_000;

/**
 * Takes one token at `now`; a clock that went back refills nothing. Each who is refused is told a later time than the one
 * before, a token apart, so that a herd that obeys comes back one by one. `overdraft` is how far below zero this caller
 * may take the bucket: the others then wait until that is made up for.
 */
export function takeToken(bucket: Bucket | undefined, limits: BucketLimits, now: number, overdraft = 0): TakeResult {
  const elapsed = bucket ? Math.max(0, now - bucket.at) : 0;
  const tokens = bucket ? Math.min(limits.burst, bucket.tokens + (elapsed / 1000) * limits.perSecond) : limits.burst;
  const promised = bucket?.promised ?? 0;
  if (tokens + overdraft >= 1) return { taken: true, bucket: { tokens: tokens - 1, at: now, promised } };
  const waitMs = ((1 - overdraft - tokens) / limits.perSecond) * 1000;
  const turn = Math.max(now + waitMs, promised + 1000 / limits.perSecond);
  const told = Math.min(turn, now + Math.max(waitMs, longestPromiseMs));
  return { taken: false, bucket: { tokens, at: now, promised: told }, retryAfterMs: Math.ceil(told - now) };
}
