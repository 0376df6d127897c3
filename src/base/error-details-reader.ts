import type { ErrorCode } from './errors.ts';
import { grpcStatus } from './errors.ts';
import { readFields, textOf } from './wire-reader.ts';

/** Field numbers, from proto/google/rpc. */
const statusDetails = 3;
const anyField = { typeUrl: 1, value: 2 } as const;
const errorInfoReason = 1;
const retryInfoDelay = 1;
const durationField = { seconds: 1, nanos: 2 } as const;
const longestDetails = 8192;
/** Who obeyed a number of any size would let its certificate run out. */
const longestRetryAfterMs = 5 * 60_000;

/** What a server of ours says of a failed call beside its status. */
export interface RichDetails {
  /** A code of ours, from google.rpc.ErrorInfo. */
  readonly reason?: ErrorCode;
  /** From google.rpc.RetryInfo, five minutes at most. */
  readonly retryAfterMs?: number;
}

/** From the trailer `grpc-status-details-bin`, which error-details.ts writes. What doesn't parse is as good as nothing. */
export function readErrorDetails(trailer: string | Buffer | undefined): RichDetails {
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
