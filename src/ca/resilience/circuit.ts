/**
 * The circuit breaker of one CA backend, as plain data and pure functions of the time. Closed, calls go through. After some
 * failures in a row it is open: calls fail at once, so that nobody waits for somebody who is away and a CA that is coming
 * back is not met by everybody. While open, one call a second goes through as a trial, also while earlier trials still
 * hang; whichever succeeds closes it.
 */
export type Circuit =
  | { readonly state: 'closed'; readonly failures: number }
  | {
      readonly state: 'open';
      readonly since: number;
      readonly nextTrialAt: number;
      /** Trials under way. */
      readonly trials: number;
    };

/** As it is shown: `half-open` while a trial is under way. */
export type CircuitState = 'closed' | 'open' | 'half-open';

export const closedCircuit: Circuit = { state: 'closed', failures: 0 };

/** Failed calls in a row, each after its own retries. */
export const failuresToOpen = 3;
/** Recovery is noticed within this, plus what the one who tries waits between its own tries. */
export const trialEveryMs = 1000;

/** How long until a call may go through: 0 for now. */
export function circuitWaitMs(circuit: Circuit, now: number): number {
  if (circuit.state === 'closed') return 0;
  const wait = circuit.nextTrialAt - now;
  // Further off than it was ever set: the clock went back.
  return wait > trialEveryMs ? 0 : Math.max(0, wait);
}

/** A call goes through; ask `circuitWaitMs` first. */
export function callBegan(circuit: Circuit, now: number): Circuit {
  if (circuit.state === 'closed') return circuit;
  return { ...circuit, nextTrialAt: now + trialEveryMs, trials: circuit.trials + 1 };
}

/** `answered`: the CA is there, whatever it said. `failed`: it was not. `abandoned`: nobody waited for the answer, it tells nothing. */
export type CallOutcome = 'answered' | 'failed' | 'abandoned';

/** A call that began when `trial` says came to its end. */
export function callEnded(circuit: Circuit, call: { readonly trial: boolean; readonly outcome: CallOutcome }, now: number): Circuit {
  if (call.outcome === 'answered') return closedCircuit;
  if (circuit.state === 'open') return call.trial ? { ...circuit, trials: Math.max(0, circuit.trials - 1) } : circuit;
  // A trial of an outage that is over says nothing of what came after.
  if (call.outcome === 'abandoned' || call.trial) return circuit;
  const failures = circuit.failures + 1;
  if (failures < failuresToOpen) return { state: 'closed', failures };
  return { state: 'open', since: now, nextTrialAt: now + trialEveryMs, trials: 0 };
}

export function shownState(circuit: Circuit): CircuitState {
  if (circuit.state === 'closed') return 'closed';
  return circuit.trials > 0 ? 'half-open' : 'open';
}
