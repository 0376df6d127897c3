import { Metadata, status } from '@grpc/grpc-js';
import type { StatusObject } from '@grpc/grpc-js';
import { encodeErrorDetails } from '../base/error-details.ts';
import { grpcStatus, SignetError } from '../base/errors.ts';

const header = 'workload.spiffe.io';
const statuses = Object.values(status).filter((value) => typeof value === 'number');

/**
 * SPIFFE Workload Endpoint §5.2: a request without this header may have been forged by somebody who can make a workload
 * fetch a URL, but not set its headers (SSRF). Throws INVALID_ARGUMENT.
 */
export function checkSecurityHeader(metadata: Metadata): void {
  const values = metadata.get(header);
  if (values.length !== 1 || values[0] !== 'true')
    throw new SignetError('INVALID_ARGUMENT', `security header missing: send metadata "${header}: true"`);
}

/** What is said to a workload that can't be given anything now. */
export function unavailable(why: 'pending' | 'denied'): SignetError {
  // Workload API §4: retried by clients, but for an invalid argument.
  return why === 'pending'
    ? new SignetError('AUTHORITY_UNAVAILABLE', 'the identity of this workload is not there yet: try again')
    : new SignetError('PERMISSION_DENIED', 'no identity for this workload');
}

/** How a call ends by an error: its public message, and its stable code as google.rpc.ErrorInfo. */
export function statusOf(failure: SignetError): Partial<StatusObject> {
  const { code: reason, message, retryAfterMs } = failure;
  const code = grpcStatus(reason);
  const metadata = new Metadata();
  metadata.set('grpc-status-details-bin', encodeErrorDetails({ code, message, reason, metadata: {}, retryAfterMs }));
  return { code: statuses[code] ?? status.INTERNAL, details: message, metadata };
}
