import type { Clock } from '../base/clock.ts';
import type { DeadlineHeap } from '../base/deadline-heap.ts';
import { SignetError } from '../base/errors.ts';
import type { Caller } from '../identity/caller.ts';
import type { SdsLimits } from './limits.ts';
import type { Occupancy } from './occupancy.ts';
import type { Admission, Shown } from './secret-source.ts';

/** Why an opening that the client gave up is aborted. */
const cancelled = new SignetError('CANCELLED', 'the call was cancelled');

export interface AdmitParts {
  readonly admission: Admission;
  readonly occupancy: Occupancy;
  readonly limits: SdsLimits;
  readonly clock: Clock;
  readonly heap: DeadlineHeap;
}

/** Who calls, and one of its places taken; `leave` gives it back. */
export interface Admitted {
  readonly caller: Caller;
  readonly leave: () => void;
}

/** A call whose caller is still being asked about. */
export interface Admitting {
  /** Rejects with a SignetError. */
  readonly admitted: Promise<Admitted>;
  /** The client is gone: rejects unless it was admitted before. */
  cancel(): void;
}

/** Admits at once where nothing has to be waited for. Throws a SignetError. */
export function admit(shown: Shown, parts: AdmitParts): Admitted | Admitting {
  const working = new AbortController();
  const outcome = parts.admission.authenticate(shown, working.signal);
  return outcome instanceof Promise ? whenProved(outcome, working, parts) : enter(outcome, parts);
}

function whenProved(proving: Promise<Caller>, working: AbortController, parts: AdmitParts): Admitting {
  const { clock, heap, limits } = parts;
  const { promise, resolve, reject } = Promise.withResolvers<Caller>();
  let settled = false;
  const giveUp = (why: SignetError): void => {
    if (settled) return;
    settled = true;
    working.abort(why);
    reject(why);
  };
  // Not AbortSignal.timeout, a timer for each of thousands of streams. Not cancelled either: it is soon due anyway.
  heap.at(clock.now() + limits.authenticateTimeoutMs, () => {
    giveUp(new SignetError('IDENTITY_SOURCE_UNAVAILABLE', 'authentication took too long'));
  });
  proving.then(
    (caller) => {
      settled = true;
      resolve(caller);
    },
    (error: unknown) => {
      settled = true;
      reject(SignetError.from(error));
    },
  );
  return {
    admitted: promise.then((caller) => enter(caller, parts)),
    cancel() {
      giveUp(cancelled);
    },
  };
}

function enter(caller: Caller, { clock, occupancy }: AdmitParts): Admitted {
  if (caller.credentialEnds <= clock.now()) throw new SignetError('UNAUTHENTICATED', 'the credential has ended');
  return { caller, leave: occupancy.enter(caller.spiffeId) };
}
