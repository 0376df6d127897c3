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
/** A trailer must fit into one HTTP/2 header list; nobody reads more of a message. */
const longestMessage = 1024;

export type StatusOf = (code: ErrorCode) => number;

/**
 * The status of a failed call: number, public message, and google.rpc.ErrorInfo {reason: our code, domain: signet.dev}.
 * `statusOf` is for services whose clients expect other numbers.
 */
export function toStatus(error: unknown, statusOf: StatusOf = grpcStatus): CallStatus {
  const failure = SignetError.from(error);
  const code = statusOf(failure.code);
  const details = failure.code === 'UNAUTHENTICATED' ? opaque : failure.message.slice(0, longestMessage);
  const metadata = new Metadata();
  metadata.set(
    'grpc-status-details-bin',
    encodeErrorDetails({ code, message: details, reason: failure.code, metadata: failure.metadata, retryAfterMs: failure.retryAfterMs }),
  );
  return { code, details, metadata };
}
