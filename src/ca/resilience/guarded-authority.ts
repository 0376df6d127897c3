import { setTimeout as sleep } from 'node:timers/promises';
import { backoffMs } from '../../base/backoff.ts';
import type { Clock, Random } from '../../base/clock.ts';
import { abortable, deadlineSignal } from '../../base/deadline.ts';
import { formatDuration } from '../../base/duration.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Authority, SignedChain, SigningRequest } from '../authority.ts';
import { callBegan, callEnded, circuitWaitMs, closedCircuit, shownState } from './circuit.ts';
import type { CallOutcome, Circuit, CircuitState } from './circuit.ts';
import { comeBackMs, holdLeftMs, throttled } from './throttle.ts';
import type { Throttle } from './throttle.ts';

/** What is known of a backend that signs elsewhere, without asking it. */
export interface Guard {
  circuit(): CircuitState;
  /**
   * Why a call would be turned away now: AUTHORITY_UNAVAILABLE while the circuit is open, AUTHORITY_THROTTLED while the
   * backend asked to be left alone; with `retryAfterMs`. Undefined if one would be let through.
   */
  refusal(): SignetError | undefined;
}

/** A CA backend as the issuing side sees it. */
export interface GuardedAuthority extends Authority {
  /** None of one that signs in this process. */
  readonly guard?: Guard;
  /** The name of the backend that signs in its stead while its circuit is open. */
  readonly fallback?: string | undefined;
}

export interface GuardOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** How long one signature may take, retries included. */
  readonly timeoutMs: number;
  /** Asked anew each time: it may change while the backend stays open. */
  readonly fallback?: () => string | undefined;
  /** Rejects as soon as the signal aborts. */
  readonly pause?: (ms: number, signal: AbortSignal) => Promise<void>;
}

const retries = 2;
const retryLimits = { baseMs: 100, maxMs: 1000 };
/** A caller with less patience than this leaves no word on the backend when it goes. */
const leastPatienceMs = 900;

/**
 * The same authority, with a deadline for each call, retries for what may be retried, a circuit breaker, and a hold while
 * it throttles. How many calls there are at a time is bounded before it, by the issuance gate: a bulkhead that serves
 * renewals first. One that signs in this process is returned as it is: it is never away.
 */
export function guarded(inner: Authority, options: GuardOptions): GuardedAuthority {
  const { clock, random, log, timeoutMs, pause = pauseOnTimer } = options;
  if (inner.capabilities.builtHere) return inner;
  const { name } = inner;
  let circuit: Circuit = closedCircuit;
  let throttle: Throttle | undefined;
  let lastFailure = '';

  function refusal(): SignetError | undefined {
    const now = clock.now();
    const trialMs = circuitWaitMs(circuit, now);
    if (trialMs > 0) {
      return new SignetError('AUTHORITY_UNAVAILABLE', `CA backend ${name} is away: it is tried again in ${formatDuration(trialMs)}`, {
        retryAfterMs: trialMs,
      });
    }
    return throttle && holdLeftMs(throttle, now) > 0 ? heldBack(throttle, now) : undefined;
  }

  function heldBack(by: Throttle, now: number): SignetError {
    const retryAfterMs = comeBackMs(by, now, random);
    return new SignetError('AUTHORITY_THROTTLED', `CA backend ${name} asks to be asked less: retry in ${formatDuration(retryAfterMs)}`, {
      retryAfterMs,
    });
  }

  function ended(trial: boolean, outcome: CallOutcome, why: SignetError | undefined): void {
    const before = circuit;
    const now = clock.now();
    if (outcome === 'failed' && why) lastFailure = why.message;
    circuit = callEnded(circuit, { trial, outcome }, now);
    if (before.state === circuit.state) return;
    if (circuit.state === 'open') {
      log.error(
        { authority: name, circuit: 'open', err: why },
        'the CA backend is away: its circuit is open, and one call a second tries it',
      );
    } else if (before.state === 'open') {
      log.info({ authority: name, circuit: 'closed', awayMs: Math.max(0, now - before.since) }, 'the CA backend is back');
    }
  }

  async function sign(request: SigningRequest, signal: AbortSignal): Promise<SignedChain> {
    if (signal.aborted) throw SignetError.from(signal.reason);
    const away = circuitWaitMs(circuit, clock.now()) > 0 ? refusal() : undefined;
    if (away) throw away;
    const began = clock.now();
    const trial = circuit.state === 'open';
    circuit = callBegan(circuit, began);
    const bounded = deadlineSignal(timeoutMs, signal);
    const end = (failure: SignetError): SignetError => {
      ended(trial, outcomeOf(failure, clock.now() - began), failure);
      return failure;
    };
    for (let attempt = 0; ; attempt++) {
      const failure = await tryOnce(request, bounded);
      if (!(failure instanceof SignetError)) {
        ended(trial, 'answered', undefined);
        return failure;
      }
      // Others may have opened the circuit meanwhile: what is known to be away isn't asked again.
      const waitMs = bounded.aborted || trial || circuit.state === 'open' ? undefined : retryWaitMs(failure, attempt, random);
      if (waitMs === undefined || clock.now() - began + waitMs >= timeoutMs) throw end(failure);
      try {
        await pause(waitMs, bounded);
      } catch (error) {
        throw end(asFailure(error, bounded));
      }
    }
  }

  /** A failure is returned, not thrown. Nothing is asked of a backend that is to be left alone. */
  async function tryOnce(request: SigningRequest, signal: AbortSignal): Promise<SignedChain | SignetError> {
    const held = throttle;
    if (held && holdLeftMs(held, clock.now()) > 0) return heldBack(held, clock.now());
    try {
      return await abortable(inner.sign(request, signal), signal);
    } catch (error) {
      const failure = asFailure(error, signal);
      if (failure.code !== 'AUTHORITY_THROTTLED') return failure;
      throttle = throttled(throttle, clock.now(), failure.retryAfterMs, random);
      return heldBack(throttle, clock.now());
    }
  }

  /** Whose patience ended: the caller's own reason, or that the CA took longer than it may. */
  function asFailure(error: unknown, bounded: AbortSignal): SignetError {
    const failure = SignetError.from(bounded.aborted ? bounded.reason : error);
    if (failure.code !== 'DEADLINE_EXCEEDED') return failure;
    return new SignetError('AUTHORITY_UNAVAILABLE', `CA backend ${name} did not answer in time`, { cause: failure });
  }

  return {
    ...inner,
    get fallback() {
      return options.fallback?.();
    },
    guard: { circuit: () => shownState(circuit), refusal },
    sign,
    async health(signal) {
      const health = await inner.health(signal);
      if (circuit.state === 'closed') return health;
      const away = formatDuration(Math.max(0, Math.round((clock.now() - circuit.since) / 1000) * 1000));
      return { canSign: false, detail: `no signature for ${away} (circuit open): ${health.canSign ? lastFailure : health.detail}` };
    },
  };
}

/** How long to wait before the next try of the same call; undefined if there is none. Throttled, a call waits for its turn as long as it has time. */
function retryWaitMs(failure: SignetError, attempt: number, random: Random): number | undefined {
  if (failure.code === 'AUTHORITY_THROTTLED') return failure.retryAfterMs;
  if (failure.code !== 'AUTHORITY_UNAVAILABLE' || attempt >= retries) return undefined;
  return Math.max(failure.retryAfterMs ?? 0, backoffMs(attempt, retryLimits, random));
}

function outcomeOf(failure: SignetError, tookMs: number): CallOutcome {
  if (failure.code === 'CANCELLED') return 'abandoned';
  if (failure.code === 'AUTHORITY_UNAVAILABLE') return isDeadline(failure.cause) && tookMs < leastPatienceMs ? 'abandoned' : 'failed';
  return failure.code === 'INTERNAL' ? 'failed' : 'answered';
}

function isDeadline(cause: unknown): boolean {
  return cause instanceof SignetError && cause.code === 'DEADLINE_EXCEEDED';
}

async function pauseOnTimer(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal });
}
