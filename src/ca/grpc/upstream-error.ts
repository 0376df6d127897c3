import type { ServiceError } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import { readErrorDetails } from '../../base/error-details-reader.ts';
import type { ErrorCode } from '../../base/errors.ts';
import { SignetError } from '../../base/errors.ts';
import { harmless } from '../../base/harmless.ts';

const longestReason = 300;

type Verdict = 'AUTHORITY_UNAVAILABLE' | 'AUTHORITY_THROTTLED' | 'AUTHORITY_REFUSED' | 'AUTHORITY_MISCONFIGURED';

/** A server of ours says more than gRPC's number does; what isn't here is judged by that. */
const byReason: Readonly<Partial<Record<ErrorCode, Verdict>>> = {
  RATE_LIMITED: 'AUTHORITY_THROTTLED',
  OVERLOADED: 'AUTHORITY_THROTTLED',
  AUTHORITY_THROTTLED: 'AUTHORITY_THROTTLED',
  AUTHORITY_MISCONFIGURED: 'AUTHORITY_MISCONFIGURED',
  AUTHORITY_MISBEHAVED: 'AUTHORITY_MISCONFIGURED',
  TOO_LARGE: 'AUTHORITY_REFUSED',
};

const byStatus: Readonly<Partial<Record<number, Verdict>>> = {
  [status.RESOURCE_EXHAUSTED]: 'AUTHORITY_THROTTLED',
  [status.UNAUTHENTICATED]: 'AUTHORITY_REFUSED',
  [status.PERMISSION_DENIED]: 'AUTHORITY_REFUSED',
  [status.INVALID_ARGUMENT]: 'AUTHORITY_REFUSED',
  [status.FAILED_PRECONDITION]: 'AUTHORITY_REFUSED',
  [status.OUT_OF_RANGE]: 'AUTHORITY_REFUSED',
  [status.NOT_FOUND]: 'AUTHORITY_MISCONFIGURED',
  [status.UNIMPLEMENTED]: 'AUTHORITY_MISCONFIGURED',
};

/** What became of a call to an upstream CA, as an authority says it. `what` names whom we asked, with its address. */
export function upstreamError(error: ServiceError, what: string): SignetError {
  const { reason, retryAfterMs } = readErrorDetails(error.metadata.get('grpc-status-details-bin')[0]);
  const verdict = (reason && byReason[reason]) ?? byStatus[error.code] ?? 'AUTHORITY_UNAVAILABLE';
  const said = harmless(error.details.slice(0, longestReason));
  // Retried as is, and the cause is for the log: whatever the other side writes there is bounded above.
  const details = {
    cause: new Error(`gRPC status ${String(error.code)}: ${said}`),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  };
  return new SignetError(verdict, `${what} ${textOf(verdict, error.code, said)}`, details);
}

function textOf(verdict: Verdict, code: status, said: string): string {
  if (code === status.UNAVAILABLE && /certificate|altnames|self-signed|issuer/i.test(said))
    return `is not who was meant, or does not take our certificate (${whyNot(said)}): check caFile, serverName and certificateFile`;
  if (code === status.UNAVAILABLE) return `does not answer (${whyNot(said)})`;
  const quoted = said === '' ? `gRPC status ${String(code)}` : said;
  if (code === status.UNAUTHENTICATED)
    return `refused our credential (${quoted}): check tokenFile or certificateFile, and whom it lets sign`;
  if (code === status.UNIMPLEMENTED) return `does not offer that (${quoted}): check address`;
  return `${verdict === 'AUTHORITY_UNAVAILABLE' ? 'failed' : 'said no'}: ${quoted}`;
}

/** gRPC's text for a connection that failed is long; the system's or TLS's own reason is at its end. */
function whyNot(details: string): string {
  return /Last error: (?:Error: )?(.*?)(?:\. Resolution note:.*)?$/.exec(details)?.[1] ?? details;
}
