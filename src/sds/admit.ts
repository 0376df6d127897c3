import type { Metadata } from '@grpc/grpc-js';
import type { Clock } from '../base/clock.ts';
import type { DeadlineHeap } from '../base/deadline-heap.ts';
import { SignetError } from '../base/errors.ts';
import type { Caller } from '../identity/caller.ts';
import type { SdsLimits } from './limits.ts';
import type { Occupancy } from './occupancy.ts';
import type { Admission } from './secret-source.ts';

/** Why an opening that the client gave up is aborted. */
const cancelled = new SignetError('CANCELLED', 'the call was cancelled');

/** What of a call is looked at. */
export interface Shown {
  readonly metadata: Metadata;
  getAuthContext(): { readonly sslPeerCertificate?: { readonly raw: Buffer } | undefined };
}

export interface AdmitParts {
  readonly admission: Admission;
  readonly occupancy: Occupancy;
  readonly limits: SdsLimits;
  readonly clock: Clock;
  readonly heap: DeadlineHeap;
}

/** A call on its way to be admitted. */
export interface Admitting {
  /** Who calls, and one of its places taken; `leave` gives it back. Rejects with a SignetError. */
  readonly admitted: Promise<Admitted>;
  /** The client is gone: rejects unless it was admitted before. */
  cancel(): void;
}

export interface Admitted {
  readonly caller: Caller;
  readonly leave: () => void;
}

export function admit(call: Shown, { admission, occupancy, limits, clock, heap }: AdmitParts): Admitting {
  const working = new AbortController();
  const { promise, resolve, reject } = Promise.withResolvers<Caller>();
  let settled = false;
  const giveUp = (why: SignetError): void => {
    settled = true;
    working.abort(why);
    reject(why);
  };
  // Not AbortSignal.timeout, a timer for each of thousands of streams. Not cancelled either: it is soon due anyway.
  heap.at(clock.now() + limits.authenticateTimeoutMs, () => {
    if (!settled) giveUp(new SignetError('IDENTITY_SOURCE_UNAVAILABLE', 'authentication took too long'));
  });
  admission.authenticate(shownBy(call), working.signal).then(
    (caller) => {
      settled = true;
      resolve(caller);
    },
    (error: unknown) => {
      settled = true;
      reject(SignetError.from(error));
    },
  );
  const admitted = promise.then((caller) => {
    if (caller.credentialEnds <= clock.now()) throw new SignetError('UNAUTHENTICATED', 'the credential has ended');
    return { caller, leave: occupancy.enter(caller.spiffeId) };
  });
  return {
    admitted,
    cancel() {
      if (!settled) giveUp(cancelled);
    },
  };
}

/** A key sent twice is joined, so that a second token can't hide behind a first. */
function shownBy(call: Shown): { readonly metadata: ReadonlyMap<string, string>; readonly peerChain: readonly Buffer[] } {
  const metadata = new Map<string, string>();
  for (const key of Object.keys(call.metadata.getMap())) {
    const values = call.metadata.get(key).filter((value) => typeof value === 'string');
    if (values.length > 0) metadata.set(key, values.join(', '));
  }
  const peer = call.getAuthContext().sslPeerCertificate;
  return { metadata, peerChain: peer ? [peer.raw] : [] };
}
