import { grpcStatus } from './errors.ts';
import type { ErrorCode } from './errors.ts';
import { readFields, textOf } from './wire-reader.ts';

/** What a foreign service says of a failure besides its status, from the trailer `grpc-status-details-bin`. */
export interface ReadErrorDetails {
  /** A code of ours, from google.rpc.ErrorInfo. */
  readonly reason?: ErrorCode;
  /** Beside it, from the same place. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** From google.rpc.RetryInfo, five minutes at most. */
  readonly retryAfterMs?: number;
}

/** Field numbers, from proto/google/rpc. */
const statusDetails = 3;
const anyField = { typeUrl: 1, value: 2 } as const;
const errorInfoField = { reason: 1, metadata: 3 } as const;
const mapEntry = { key: 1, value: 2 } as const;
const retryInfoDelay = 1;
const durationField = { seconds: 1, nanos: 2 } as const;
const longestDetails = 8192;
/** Who obeyed a number of any size would let its certificate run out. */
export const longestRetryAfterMs = 5 * 60_000;

/** What doesn't parse is as good as nothing. */
export function readErrorDetails(trailer: string | Buffer | undefined): ReadErrorDetails {
  if (!Buffer.isBuffer(trailer) || trailer.length > longestDetails) return {};
  try {
    let details: ReadErrorDetails = {};
    readFields(trailer, (field, value) => {
      if (field === statusDetails && typeof value !== 'number') details = { ...details, ...oneDetail(value) };
    });
    return details;
  } catch {
    return {};
  }
}

function oneDetail(any: Buffer): ReadErrorDetails {
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

function errorInfo(bytes: Buffer): ReadErrorDetails {
  let reason = '';
  const metadata = new Map<string, string>();
  readFields(bytes, (field, value) => {
    if (field === errorInfoField.reason) reason = textOf(value) ?? reason;
    if (field !== errorInfoField.metadata || typeof value === 'number') return;
    const pair = new Map<number, string | undefined>();
    readFields(value, (part, text) => pair.set(part, textOf(text)));
    metadata.set(pair.get(mapEntry.key) ?? '', pair.get(mapEntry.value) ?? '');
  });
  return isErrorCode(reason) ? { reason, metadata: Object.fromEntries(metadata) } : {};
}

function retryInfo(bytes: Buffer): ReadErrorDetails {
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
