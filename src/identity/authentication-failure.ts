import { SignetError } from '../base/errors.ts';

/** Why a credential was refused: for our log and for metrics, never for the client. Stable names. */
export type AuthenticationFailureReason =
  | 'no-credential'
  | 'malformed'
  | 'unknown-issuer'
  | 'unknown-cluster'
  | 'unknown-key'
  | 'bad-signature'
  | 'review-refused'
  | 'ambiguous-issuer'
  | 'expired'
  | 'not-yet-valid'
  | 'too-long-lived'
  | 'wrong-audience'
  | 'claim'
  | 'not-allowed'
  | 'bad-certificate'
  | 'unknown-certificate'
  | 'reauthentication-due';

/** Which errors are refusals of ours: kept beside them, so that no foreign error can pass for one. */
const reasonOf = new WeakMap<object, AuthenticationFailureReason>();

function refusal(reason: AuthenticationFailureReason, detail: string): Error {
  const cause = new Error(`${reason}: ${detail}`);
  reasonOf.set(cause, reason);
  return cause;
}

/** An opaque UNAUTHENTICATED; `detail` goes to the log alone and must hold no part of the token beyond single claims. */
export function authenticationFailed(reason: AuthenticationFailureReason, detail: string): SignetError {
  return new SignetError('UNAUTHENTICATED', 'authentication failed', { cause: refusal(reason, detail) });
}

/** The one thing that a bearer may learn, since only a genuine token gets this far: it has ended, and when. */
export function tokenExpired(endedAt: number): SignetError {
  const when = new Date(endedAt).toISOString();
  return new SignetError('TOKEN_EXPIRED', `the token expired at ${when}`, { cause: refusal('expired', `it ended at ${when}`) });
}

/** The reason in an error that an Authenticator threw; undefined for errors that are no refusal (a source being away). */
export function failureReason(error: unknown): AuthenticationFailureReason | undefined {
  const cause = error instanceof SignetError ? error.cause : undefined;
  return cause instanceof Error ? reasonOf.get(cause) : undefined;
}

/** A claim's value as a log may show it: short, quoted, control characters escaped. */
export function shown(value: unknown): string {
  if (typeof value !== 'string') return value === null ? 'null' : Array.isArray(value) ? 'a list' : `a ${typeof value}`;
  return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}...` : value);
}
