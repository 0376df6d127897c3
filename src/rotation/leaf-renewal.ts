import { backoffMs } from '../base/backoff.ts';
import type { Random } from '../base/clock.ts';

/** When a certificate is renewed: at 50 +-10 % of what lies between its issuance and its end. */
export function renewAt(certificate: { readonly issuedAt: number; readonly notAfter: number; readonly random: Random }): number {
  const life = Math.max(0, certificate.notAfter - certificate.issuedAt);
  return certificate.issuedAt + Math.round(life * (0.4 + 0.2 * certificate.random()));
}

const firstRetryMs = 1000;
const shortestRetryMs = 200;
const longestRetryMs = 60_000;
/**
 * With nothing valid in hand the workload is down: never wait long. Together with the second after which a circuit breaker
 * lets the next trial through, all is well within 5 s of the CA's return.
 */
const longestRetryWithoutMs = 3000;
/** At least about this many tries fit into what is left of the certificate at any moment. */
const triesLeft = 8;

export interface RetryState {
  readonly now: number;
  /** End of the certificate still held; undefined with none. */
  readonly notAfter: number | undefined;
  /** Consecutive failures, at least 1. */
  readonly failures: number;
  readonly random: Random;
  /** An upper bound of the wait below the usual one. */
  readonly longestMs?: number;
}

/** When to try again: exponential, jittered, and the shorter the less time is left. */
export function retryAt(state: RetryState): number {
  const left = state.notAfter === undefined ? 0 : state.notAfter - state.now;
  const usualMs = left > 0 ? Math.min(longestRetryMs, Math.max(shortestRetryMs, left / triesLeft)) : longestRetryWithoutMs;
  const maxMs = Math.min(usualMs, state.longestMs ?? usualMs);
  const baseMs = Math.min(firstRetryMs, maxMs);
  return state.now + Math.ceil(backoffMs(Math.max(0, state.failures - 1), { baseMs, maxMs }, state.random));
}

const firstResignMs = 2000;
const longestResignMs = 300_000;

/** When to sign anew a chain that Envoy refused because its key file is not there yet: the same bytes would prove nothing. */
export function resignAt(state: { readonly now: number; readonly refusals: number; readonly random: Random }): number {
  const limits = { baseMs: firstResignMs, maxMs: longestResignMs };
  return state.now + Math.ceil(backoffMs(Math.max(0, state.refusals - 1), limits, state.random));
}
