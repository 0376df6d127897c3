import { Metadata } from '@grpc/grpc-js';
import { grpcStatus, SignetError } from '../base/errors.ts';
import type { ErrorCode } from '../base/errors.ts';
import { encodeErrorDetails } from '../base/error-details.ts';

/** What grpc-js takes as the error of a call. */
export interface CallStatus {
  readonly code: number;
  readonly details: string;
  readonly metadata: Metadata;
}

/** What a client learns of a refused credential, whoever refused it and why. The log has the reason. */
const opaque = 'authentication failed';
/** What a CA backend said, and where it is, is for the log and the operator: a workload learns whether to come back. */
const ofTheCa: Readonly<Partial<Record<ErrorCode, string>>> = {
  AUTHORITY_UNAVAILABLE: 'the CA can not sign now: try again',
  AUTHORITY_THROTTLED: 'the CA asks to be asked less often: try again later',
  AUTHORITY_REFUSED: 'the CA refuses to sign this; the log of the server says why',
  AUTHORITY_MISCONFIGURED: 'the CA can not sign as it is configured; the log of the server says why',
  AUTHORITY_MISBEHAVED: 'the CA returned something else than was asked for, which is not used',
};
/** A trailer must fit into one HTTP/2 header list; nobody reads more of a message. */
const longestMessage = 1024;

export type StatusOf = (code: ErrorCode) => number;

/**
 * The status of a failed call: number, public message, and google.rpc.ErrorInfo {reason: our code, domain: signet.dev}.
 * `statusOf` is for services whose clients expect other numbers. Who isn't the operator hears nothing of the CA's own words.
 */
export function toStatus(error: unknown, statusOf: StatusOf = grpcStatus, audience: 'operator' | 'anybody' = 'anybody'): CallStatus {
  const failure = SignetError.from(error);
  const code = statusOf(failure.code);
  const ofCa = audience === 'anybody' ? ofTheCa[failure.code] : undefined;
  const details = failure.code === 'UNAUTHENTICATED' ? opaque : (ofCa ?? failure.message.slice(0, longestMessage));
  const metadata = new Metadata();
  metadata.set(
    'grpc-status-details-bin',
    encodeErrorDetails({ code, message: details, reason: failure.code, metadata: failure.metadata, retryAfterMs: failure.retryAfterMs }),
  );
  return { code, details, metadata };
}
