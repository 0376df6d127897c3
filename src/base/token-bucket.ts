/** A token bucket as plain data: `tokens` as of `at`. */
export interface Bucket {
  readonly tokens: number;
  readonly at: number;
}

export interface BucketLimits {
  readonly perSecond: number;
  readonly burst: number;
}

export type TakeResult =
  | { readonly taken: true; readonly bucket: Bucket }
  | { readonly taken: false; readonly bucket: Bucket; readonly retryAfterMs: number };

/** Takes one token at `now`; a clock that went back refills nothing. */
export function takeToken(bucket: Bucket | undefined, limits: BucketLimits, now: number): TakeResult {
  const elapsed = bucket ? Math.max(0, now - bucket.at) : 0;
  const tokens = bucket ? Math.min(limits.burst, bucket.tokens + (elapsed / 1000) * limits.perSecond) : limits.burst;
  if (tokens >= 1) return { taken: true, bucket: { tokens: tokens - 1, at: now } };
  return { taken: false, bucket: { tokens, at: now }, retryAfterMs: Math.ceil(((1 - tokens) / limits.perSecond) * 1000) };
}
