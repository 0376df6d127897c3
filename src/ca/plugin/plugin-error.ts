import type { ServiceError } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import { longestRetryAfterMs, readErrorDetails } from '../../base/error-details-reader.ts';
import { SignetError } from '../../base/errors.ts';
import type { ErrorCode } from '../../base/errors.ts';
import { harmless } from '../../base/harmless.ts';

const longestReason = 500;

type PluginFault =
  | 'AUTHORITY_UNAVAILABLE'
  | 'AUTHORITY_THROTTLED'
  | 'AUTHORITY_REFUSED'
  | 'AUTHORITY_MISCONFIGURED'
  | 'AUTHORITY_MISBEHAVED';

/** The reasons that are a plugin's to give; whether it misbehaved, others judge. */
const givable: ReadonlySet<ErrorCode> = new Set([
  'AUTHORITY_UNAVAILABLE',
  'AUTHORITY_THROTTLED',
  'AUTHORITY_REFUSED',
  'AUTHORITY_MISCONFIGURED',
]);

/** For plugins that give no ErrorInfo. What is not listed is a fault that may pass: UNAVAILABLE. */
const faultOfStatus: ReadonlyMap<number, PluginFault> = new Map([
  [status.RESOURCE_EXHAUSTED, 'AUTHORITY_THROTTLED'],
  [status.INVALID_ARGUMENT, 'AUTHORITY_REFUSED'],
  [status.PERMISSION_DENIED, 'AUTHORITY_REFUSED'],
  [status.UNAUTHENTICATED, 'AUTHORITY_REFUSED'],
  [status.NOT_FOUND, 'AUTHORITY_MISCONFIGURED'],
  [status.FAILED_PRECONDITION, 'AUTHORITY_MISCONFIGURED'],
  [status.UNIMPLEMENTED, 'AUTHORITY_MISCONFIGURED'],
]);

const words: Readonly<Record<PluginFault, string>> = {
  AUTHORITY_UNAVAILABLE: "doesn't answer, or its CA doesn't: its log has the reason",
  AUTHORITY_THROTTLED: 'asks to be asked less often',
  AUTHORITY_REFUSED: 'refuses: its own policy and log say why',
  AUTHORITY_MISCONFIGURED: "can't work as it is configured: its log says what is missing",
  AUTHORITY_MISBEHAVED: 'broke the protocol: what it sent is not used',
};

/** What gRPC's library says in a plugin's name when that sent what it may not. */
const violation = /^(?:Received message larger than max|Response message parsing error)/;
/** So gRPC's library begins when there is no connection; the system's or TLS's own reason is at the end. */
const notConnected = /^No connection established/;
/** TLS alerts by which the other side tells that it doesn't take our certificate (RFC 8446 §6.2). */
const certificateRefused =
  /alert (?:number (?:4[2-8]|116)|bad certificate|certificate (?:required|expired|revoked|unknown)|unknown ca|access denied)/i;
const certificateNotBelieved = /certificate|altnames|self.signed/i;

/** What a call to a plugin failed with, as one of our errors. The plugin's own words are the cause: for the log alone. */
export function pluginError(error: unknown, plugin: string, signal: AbortSignal): SignetError {
  if (signal.aborted) return SignetError.from(signal.reason);
  if (!isServiceError(error)) return SignetError.from(error);
  const said = harmless(error.details.slice(0, longestReason));
  const cause = new Error(`gRPC status ${status[error.code]}: ${said}`);
  if (violation.test(error.details)) return fault('AUTHORITY_MISBEHAVED', plugin, cause);
  const details = readErrorDetails(error.metadata.get('grpc-status-details-bin')[0]);
  const retryAfterMs = details.retryAfterMs ?? pushback(error.metadata.get('grpc-retry-pushback-ms')[0]);
  if (details.reason !== undefined && givable.has(details.reason)) return fault(details.reason as PluginFault, plugin, cause, retryAfterMs);
  if (error.code === status.UNAVAILABLE && notConnected.test(error.details)) {
    if (certificateRefused.test(error.details))
      return new SignetError('AUTHORITY_REFUSED', `plugin ${plugin} refuses the certificate of tls.certificate`, { cause });
    if (certificateNotBelieved.test(error.details))
      return new SignetError('AUTHORITY_MISCONFIGURED', `what answers is not plugin ${plugin}: check its tls.ca and tls.serverName`, {
        cause,
      });
  }
  return fault(faultOfStatus.get(error.code) ?? 'AUTHORITY_UNAVAILABLE', plugin, cause, retryAfterMs);
}

/** Of something that a plugin sent and may not have. */
export function misbehaved(plugin: string, what: string): SignetError {
  return new SignetError('AUTHORITY_MISBEHAVED', `plugin ${plugin} ${words.AUTHORITY_MISBEHAVED}`, { cause: new Error(what) });
}

function fault(code: PluginFault, plugin: string, cause: Error, retryAfterMs?: number): SignetError {
  return new SignetError(code, `plugin ${plugin} ${words[code]}`, { cause, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) });
}

/** The trailer of gRPC's own retries (gRFC A6), for who has no protobuf at hand for RetryInfo. */
function pushback(value: string | Buffer | undefined): number | undefined {
  return typeof value === 'string' && /^\d{1,9}$/.test(value) ? Math.min(Number(value), longestRetryAfterMs) : undefined;
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'details' in error && 'metadata' in error;
}
