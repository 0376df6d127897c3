import type { NameLimits } from './subscription.ts';

/**
 * What one client can make us do. Limits of the transport (message size, streams a connection, keepalive, connection age)
 * are the server's: a request is to be capped at 1 MiB or less, and the grace after a connection's age has to exceed
 * maxStreamAgeMs, so that nothing is ever reset by it.
 */
export interface SdsLimits extends NameLimits {
  /** A stream ends with OK by then, and a little earlier at random. */
  readonly maxStreamAgeMs: number;
  /** Open at once. An identity may have thousands of instances with several streams each. */
  readonly maxStreamsPerIdentity: number;
  /** New ones, sustained; as many at once as may be open. */
  readonly streamsPerSecondPerIdentity: number;
  /** Of work on one stream: a request is 1, and 1 more for each 64 names in it. An Envoy needs 1 for each push. */
  readonly requestsPerSecond: number;
  readonly requestBurst: number;
  readonly authenticateTimeoutMs: number;
  /** How long FetchSecrets waits for what is being made. */
  readonly fetchTimeoutMs: number;
}

export const defaultSdsLimits: SdsLimits = {
  maxStreamAgeMs: 30 * 60_000,
  maxStreamsPerIdentity: 20_000,
  streamsPerSecondPerIdentity: 200,
  maxNamesPerStream: 64,
  maxNameBytes: 2_100,
  requestsPerSecond: 50,
  requestBurst: 1_000,
  authenticateTimeoutMs: 10_000,
  fetchTimeoutMs: 10_000,
};

export interface Budget {
  tokens: number;
  at: number;
}

/** Takes `cost` if there is that much. A clock that went back refills nothing. */
export function spend(budget: Budget, cost: number, perSecond: number, burst: number, now: number): boolean {
  budget.tokens = Math.min(burst, budget.tokens + (Math.max(0, now - budget.at) / 1000) * perSecond);
  budget.at = now;
  if (budget.tokens < cost) return false;
  budget.tokens -= cost;
  return true;
}

const namesPerUnit = 64;

export function requestCost(names: number): number {
  return 1 + Math.floor(names / namesPerUnit);
}

/**
 * When a stream ends with OK: at a random point of the last 15 % of what its credential has left, so that the client comes
 * back with a fresh one in time; and by the greatest age, spread over its last tenth, so that streams opened together
 * don't all come back together.
 */
export function streamEnd(openedAt: number, credentialEnds: number, maxStreamAgeMs: number, random: () => number): number {
  const left = Math.max(0, credentialEnds - openedAt);
  return Math.min(openedAt + left * (0.85 + 0.15 * random()), openedAt + maxStreamAgeMs * (0.9 + 0.1 * random()));
}
