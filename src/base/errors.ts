/**
 * The one error class. `code` is stable and goes to clients in google.rpc.ErrorInfo; `message` may be shown to the
 * client as it is; `cause` is for our own log alone.
 */
export type ErrorCode =
  | 'UNAUTHENTICATED' // no credential, or a bad one; deliberately says no more
  | 'TOKEN_EXPIRED'
  | 'IDENTITY_SOURCE_UNAVAILABLE' // the keys or reviewer that would verify the credential can't be reached
  | 'PERMISSION_DENIED'
  | 'IDENTITY_DENIED' // stopped by an operator
  | 'INSTANCE_REQUIRED' // the issuer names no instance: bindings and server-made keys need one
  | 'INVALID_CSR'
  | 'CSR_NAME_REQUIRED' // this CA certifies what the CSR names: it must have the SPIFFE ID, which is in the metadata
  | 'INVALID_ARGUMENT'
  | 'TTL_TOO_LONG'
  | 'NOT_FOUND'
  | 'BINDING_CONFLICT'
  | 'RATE_LIMITED'
  | 'OVERLOADED'
  | 'TOO_LARGE'
  | 'AUTHORITY_UNAVAILABLE'
  | 'AUTHORITY_THROTTLED' // alive, and asks to be asked less often
  | 'AUTHORITY_REFUSED'
  | 'AUTHORITY_MISCONFIGURED'
  | 'AUTHORITY_MISBEHAVED' // what it returned is not what was asked for
  | 'CLOCK_BEHIND' // now is well before the newest issuance on record
  | 'DEADLINE_EXCEEDED'
  | 'CANCELLED'
  | 'CONFIG_INVALID'
  | 'STORE_LOCKED'
  | 'STORE_CORRUPT'
  | 'STORE_MISMATCH' // another trust domain, mode or format than the folder's
  | 'KEY_UNSEALABLE' // wrong passphrase or key-encryption key
  | 'UNIMPLEMENTED'
  | 'INTERNAL';

export interface ErrorDetails {
  readonly cause?: unknown;
  /** When a retry can succeed, in milliseconds from now. */
  readonly retryAfterMs?: number;
  /** For the client's program, in google.rpc.ErrorInfo. As public as the message. */
  readonly metadata?: Readonly<Record<string, string>>;
}

export class SignetError extends Error {
  override readonly name = 'SignetError';
  readonly code: ErrorCode;
  readonly retryAfterMs: number | undefined;
  readonly metadata: Readonly<Record<string, string>>;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.retryAfterMs = details.retryAfterMs;
    this.metadata = details.metadata ?? {};
  }

  /** The one place where foreign errors convert. Their text never reaches a client. */
  static from(error: unknown): SignetError {
    if (error instanceof SignetError) return error;
    if (error instanceof Error && error.name === 'AbortError')
      return new SignetError('CANCELLED', 'the call was cancelled', { cause: error });
    if (error instanceof Error && error.name === 'TimeoutError')
      return new SignetError('DEADLINE_EXCEEDED', 'the call took too long', { cause: error });
    return new SignetError('INTERNAL', 'internal error', { cause: error });
  }
}

/** gRPC status numbers (https://grpc.io/docs/guides/status-codes/), so that this file needs no gRPC library. */
const grpcStatusByCode: Readonly<Record<ErrorCode, number>> = {
  UNAUTHENTICATED: 16,
  TOKEN_EXPIRED: 16,
  IDENTITY_SOURCE_UNAVAILABLE: 14,
  PERMISSION_DENIED: 7,
  IDENTITY_DENIED: 7,
  INSTANCE_REQUIRED: 9,
  INVALID_CSR: 3,
  CSR_NAME_REQUIRED: 3,
  INVALID_ARGUMENT: 3,
  TTL_TOO_LONG: 3,
  NOT_FOUND: 5,
  BINDING_CONFLICT: 9,
  RATE_LIMITED: 8,
  OVERLOADED: 14,
  TOO_LARGE: 8,
  AUTHORITY_UNAVAILABLE: 14,
  AUTHORITY_THROTTLED: 14,
  AUTHORITY_REFUSED: 7,
  AUTHORITY_MISCONFIGURED: 13,
  AUTHORITY_MISBEHAVED: 13,
  CLOCK_BEHIND: 14,
  DEADLINE_EXCEEDED: 4,
  CANCELLED: 1,
  CONFIG_INVALID: 9,
  STORE_LOCKED: 9,
  STORE_CORRUPT: 15,
  STORE_MISMATCH: 9,
  KEY_UNSEALABLE: 9,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
};

export function grpcStatus(code: ErrorCode): number {
  return grpcStatusByCode[code];
}
