import { z } from 'zod';
import { harmless } from '../../base/harmless.ts';
import { SignetError } from '../../base/errors.ts';
import type { ErrorCode } from '../../base/errors.ts';
import type { JsonAnswer } from '../remote/json-http.ts';

/** AWS JSON 1.1 names an error in `__type`, perhaps with a namespace before `#`, and some services in a header. */
const failureSchema = z.object({
  __type: z.string().optional(),
  code: z.string().optional(),
  message: z.unknown().optional(),
  Message: z.unknown().optional(),
});

const throttled = new Set([
  'ThrottlingException',
  'Throttling',
  'ThrottledException',
  'RequestLimitExceeded',
  'TooManyRequestsException',
  'RequestThrottledException',
  'LimitExceededException',
]);
/** A service that is in trouble says so with 5xx, but KMS has names for it too. */
const away = new Set([
  'KMSInternalException',
  'DependencyTimeoutException',
  'KeyUnavailableException',
  'InternalFailure',
  'ServiceUnavailable',
]);
/** The thing that the configuration names is not there, or can't do this. */
const misconfigured = new Set([
  'ResourceNotFoundException',
  'NotFoundException',
  'InvalidStateException',
  'InvalidArnException',
  'DisabledException',
  'KMSInvalidStateException',
  'InvalidKeyUsageException',
  'UnsupportedOperationException',
  'UnknownOperationException',
]);
/** The credential, not what was asked. */
const credential = new Set([
  'UnrecognizedClientException',
  'InvalidClientTokenId',
  'InvalidSignatureException',
  'SignatureDoesNotMatch',
  'ExpiredTokenException',
  'ExpiredToken',
  'RequestExpired',
  'IncompleteSignature',
  'MissingAuthenticationTokenException',
]);

const patienceMs = 1000;

export interface AwsFailure {
  readonly error: SignetError;
  /** Another credential might be taken. */
  readonly credentialRefused: boolean;
  /** AWS's own name of the error. */
  readonly name: string;
}

/**
 * What an answer other than 200 means. The message has AWS's name of the error and what to look at; AWS's own text, which
 * tells accounts and roles, is the cause, for the log.
 */
export function awsFailure(action: string, resource: string, answer: JsonAnswer, retryAfterMs: number | undefined): AwsFailure {
  const parsed = failureSchema.safeParse(answer.body);
  const fields = parsed.success ? parsed.data : undefined;
  const header = answer.headers['x-amzn-errortype'];
  const name = shortName(fields?.__type ?? fields?.code ?? (typeof header === 'string' ? header : `status ${answer.status}`));
  const text = [fields?.message, fields?.Message].find((one) => typeof one === 'string');
  const cause = typeof text === 'string' ? new Error(harmless(text.slice(0, 1000))) : undefined;
  const said = `AWS answered ${action} with ${name}`;
  const fail = (code: ErrorCode, what: string, more: { readonly retryAfterMs?: number } = {}): AwsFailure => ({
    error: new SignetError(code, `${said}: ${what}`, { cause, ...more }),
    credentialRefused: credential.has(name),
    name,
  });

  if (throttled.has(name) || answer.status === 429)
    return fail('AUTHORITY_THROTTLED', 'its quota is used up', { retryAfterMs: retryAfterMs ?? patienceMs });
  if (answer.status >= 500 || away.has(name)) return fail('AUTHORITY_UNAVAILABLE', 'the service is in trouble');
  if (misconfigured.has(name)) return fail('AUTHORITY_MISCONFIGURED', `look at the state of ${resource}`);
  if (credential.has(name))
    return fail('AUTHORITY_REFUSED', "Signet's AWS credential is not accepted; look at it, and whether this machine's clock is right");
  if (name === 'AccessDeniedException' || answer.status === 403)
    return fail('AUTHORITY_REFUSED', `the IAM identity that Signet runs as needs ${action} on ${resource}`);
  return fail('AUTHORITY_REFUSED', "the request is not accepted; the log has AWS's reason");
}

function shortName(type: string): string {
  const name = type.slice(type.lastIndexOf('#') + 1).split(':', 1)[0] ?? '';
  return /^[A-Za-z0-9 ]{1,80}$/.test(name) ? name : 'an unknown error';
}
