import type { Metadata } from '@grpc/grpc-js';
import { abortable } from '../base/deadline.ts';
import type { Clock } from '../base/clock.ts';
import type { DeadlineHeap } from '../base/deadline-heap.ts';
import { SignetError } from '../base/errors.ts';
import type { Caller } from '../identity/caller.ts';
import type { SdsLimits } from './limits.ts';
import type { Occupancy } from './occupancy.ts';
import type { Admission } from './secret-source.ts';

/** Why an opening that the client gave up is aborted. */
export const cancelled = new SignetError('CANCELLED', 'the call was cancelled');

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

/** Who calls, and one of its places taken. `leave` gives it back. Ends early by `opening`. Throws a SignetError. */
export async function admit(
  call: Shown,
  parts: AdmitParts,
  opening: AbortController,
): Promise<{ readonly caller: Caller; readonly leave: () => void }> {
  const { admission, occupancy, limits, clock, heap } = parts;
  // Not AbortSignal.timeout: a timer for each of thousands of streams would outlive its use by the whole time-out.
  const cancel = heap.at(clock.now() + limits.authenticateTimeoutMs, () => {
    opening.abort(new SignetError('IDENTITY_SOURCE_UNAVAILABLE', 'authentication took too long'));
  });
  try {
    const caller = await abortable(admission.authenticate(shownBy(call), opening.signal), opening.signal);
    if (caller.credentialEnds <= clock.now()) throw new SignetError('UNAUTHENTICATED', 'the credential has ended');
    return { caller, leave: occupancy.enter(caller.spiffeId) };
  } finally {
    cancel();
  }
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
