/**
 * google.rpc.Status with ErrorInfo and RetryInfo, as bytes for the trailer `grpc-status-details-bin`. Written by hand:
 * three flat messages that never change, on the path that an attacker can make us walk most often.
 */
export interface ErrorFacts {
  /** gRPC status number. */
  readonly code: number;
  readonly message: string;
  /** Our stable code, such as INVALID_CSR. */
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryAfterMs: number | undefined;
}

/** ErrorInfo.domain: whose reasons these are. */
export const errorDomain = 'signet.dev';
const typePrefix = 'type.googleapis.com/google.rpc.';

export function encodeErrorDetails(facts: ErrorFacts): Buffer {
  const info = any('ErrorInfo', [
    text(1, facts.reason),
    text(2, errorDomain),
    ...Object.entries(facts.metadata).map(([key, value]) => bytes(3, Buffer.concat([text(1, key), text(2, value)]))),
  ]);
  const details = [bytes(3, info)];
  if (facts.retryAfterMs !== undefined) {
    const seconds = Math.floor(facts.retryAfterMs / 1000);
    const nanos = Math.floor(facts.retryAfterMs % 1000) * 1_000_000;
    details.push(bytes(3, any('RetryInfo', [bytes(1, Buffer.concat([number(1, seconds), number(2, nanos)]))])));
  }
  return Buffer.concat([number(1, facts.code), text(2, facts.message), ...details]);
}

function any(type: string, fields: readonly Buffer[]): Buffer {
  return Buffer.concat([text(1, typePrefix + type), bytes(2, Buffer.concat(fields))]);
}

function varint(value: number): Buffer {
  const out: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    out.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  out.push(rest);
  return Buffer.from(out);
}

/** proto3 leaves out what is zero. */
function number(field: number, value: number): Buffer {
  return value === 0 ? Buffer.alloc(0) : Buffer.concat([varint(field << 3), varint(value)]);
}

function bytes(field: number, value: Buffer): Buffer {
  return Buffer.concat([varint((field << 3) | 2), varint(value.length), value]);
}

function text(field: number, value: string): Buffer {
  return value === '' ? Buffer.alloc(0) : bytes(field, Buffer.from(value));
}
