import { Metadata, status } from '@grpc/grpc-js';
import type { StatusObject } from '@grpc/grpc-js';
import { encodeErrorDetails } from '../base/error-details.ts';
import { grpcStatus, SignetError } from '../base/errors.ts';

/** grpc-js's names of the numbers. */
const statuses = Object.values(status).filter((value) => typeof value === 'number');
/** A trailer must fit into one HTTP/2 header list; nobody reads more of a message. */
const longestMessage = 1024;

/** How a stream or call ends by an error: its public message, and its stable code as google.rpc.ErrorInfo. */
export function statusOf(error: unknown): Partial<StatusObject> {
  const failure = SignetError.from(error);
  const code = grpcStatus(failure.code);
  const message = failure.message.slice(0, longestMessage);
  const metadata = new Metadata();
  metadata.set(
    'grpc-status-details-bin',
    encodeErrorDetails({ code, message, reason: failure.code, metadata: {}, retryAfterMs: failure.retryAfterMs }),
  );
  return { code: statuses[code] ?? status.INTERNAL, details: message, metadata };
}
