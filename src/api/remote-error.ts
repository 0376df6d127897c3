import type { ServiceError } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import type { ErrorCode } from '../base/errors.ts';
import { SignetError, grpcStatus } from '../base/errors.ts';
import { harmless } from '../base/harmless.ts';
import { readFields, textOf } from '../base/wire-reader.ts';

const longestMessage = 1000;

/** What a server answered, or that none did, as one of our errors. Its words are shown without what a terminal would obey. */
export function remoteError(error: unknown, address: string): SignetError {
  if (!isServiceError(error)) return SignetError.from(error);
  const { reason, retryAfterMs } = richDetails(error.metadata.get('grpc-status-details-bin')[0]);
  const said = harmless(error.details.slice(0, longestMessage));
  if (reason !== undefined) return new SignetError(reason, said, { cause: error, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) });
  const where = address.replace(/^unix:/, '');
  if (error.code === status.UNAVAILABLE) return unreachable(where, whyNot(said), error);
  if (error.code === status.DEADLINE_EXCEEDED)
    return new SignetError('DEADLINE_EXCEEDED', `the server at ${where} did not answer in time`, { cause: error });
  if (error.code === status.CANCELLED) return new SignetError('CANCELLED', 'the call was cancelled', { cause: error });
  // No cause: the message is all there is to show.
  return new SignetError('INTERNAL', said === '' ? `the server at ${where} failed with gRPC status ${error.code}` : said);
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'details' in error && 'metadata' in error;
}

function unreachable(where: string, why: string, cause: Error): SignetError {
  const text = /certificate|altnames/i.test(why)
    ? `what answers at ${where} is not the server that was meant (${why}): check the CA file, the host and the server's listen.names`
    : `no server answers at ${where} (${why})`;
  return new SignetError('AUTHORITY_UNAVAILABLE', text, { cause });
}

/** gRPC's text for a connection that failed is long; the system's or TLS's own reason is at its end. */
function whyNot(details: string): string {
  return /Last error: (?:Error: )?(.*?)(?:\. Resolution note:.*)?$/.exec(details)?.[1] ?? details;
}

/** Field numbers, from proto/google/rpc. */
const statusDetails = 3;
const anyField = { typeUrl: 1, value: 2 } as const;
const errorInfoReason = 1;
const retryInfoDelay = 1;
const durationField = { seconds: 1, nanos: 2 } as const;
const longestDetails = 8192;
/** Who obeyed a number of any size would let its certificate run out. */
const longestRetryAfterMs = 5 * 60_000;

interface RichDetails {
  /** A code of ours, from google.rpc.ErrorInfo. */
  readonly reason?: ErrorCode;
  /** From google.rpc.RetryInfo, five minutes at most. */
  readonly retryAfterMs?: number;
}

/** What doesn't parse is as good as nothing. */
function richDetails(trailer: string | Buffer | undefined): RichDetails {
  if (!Buffer.isBuffer(trailer) || trailer.length > longestDetails) return {};
  try {
    let details: RichDetails = {};
    readFields(trailer, (field, value) => {
      if (field === statusDetails && typeof value !== 'number') details = { ...details, ...oneDetail(value) };
    });
    return details;
  } catch {
    return {};
  }
}

function oneDetail(any: Buffer): RichDetails {
  let type = '';
  let content: Buffer | undefined;
  readFields(any, (field, value) => {
    if (field === anyField.typeUrl) type = textOf(value) ?? type;
    else if (field === anyField.value && typeof value !== 'number') content = value;
  });
  if (content === undefined) return {};
  if (type.endsWith('/google.rpc.ErrorInfo')) return errorInfo(content);
  return type.endsWith('/google.rpc.RetryInfo') ? retryInfo(content) : {};
}

function errorInfo(bytes: Buffer): RichDetails {
  let reason = '';
  readFields(bytes, (field, value) => {
    if (field === errorInfoReason) reason = textOf(value) ?? reason;
  });
  return isErrorCode(reason) ? { reason } : {};
}

function retryInfo(bytes: Buffer): RichDetails {
  let retryAfterMs = 0;
  readFields(bytes, (field, delay) => {
    if (field !== retryInfoDelay || typeof delay === 'number') return;
    readFields(delay, (part, value) => {
      if (typeof value !== 'number') return;
      if (part === durationField.seconds) retryAfterMs += value * 1000;
      else if (part === durationField.nanos) retryAfterMs += value / 1_000_000;
    });
  });
  return { retryAfterMs: Math.min(retryAfterMs, longestRetryAfterMs) };
}

function isErrorCode(text: string): text is ErrorCode {
  return Number.isInteger(grpcStatus(text as ErrorCode));
}
