import type { Random } from '../../base/clock.ts';

/** A token of Vault's and how long it is good for. */
export interface Lease {
  readonly token: string;
  /** When that was said. */
  readonly at: number;
  /** 0: it never ends. */
  readonly ttlMs: number;
  /** What the login gave: a renewal that gives clearly less has met the token's maximum. */
  readonly fullMs: number;
  readonly renewable: boolean;
}

export interface LeaseStep {
  readonly at: number;
  readonly what: 'renew' | 'login';
}

/** A token that is renewed to its last second would else be looked after without a pause. */
const leastPauseMs = 1000;
const clearlyLess = 0.9;

/**
 * What keeps us logged in: renewal at two thirds of the life, give or take 10 % of it so that replicas don't come together;
 * a new login as soon as a renewal met the maximum, or at the same two thirds if there is no renewing. Undefined: nothing ever.
 */
export function nextStep(lease: Lease, random: Random): LeaseStep | undefined {
  const { at, ttlMs, fullMs, renewable } = lease;
  if (ttlMs === 0) return undefined;
  if (ttlMs < fullMs * clearlyLess) return { at: at + leastPauseMs, what: 'login' };
  return { at: at + Math.max(leastPauseMs, ttlMs * (2 / 3 + (random() - 0.5) * 0.2)), what: renewable ? 'renew' : 'login' };
}

export function leaseEnd({ at, ttlMs }: Lease): number {
  return ttlMs === 0 ? Infinity : at + ttlMs;
}
