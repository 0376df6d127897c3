import { z } from 'zod';
import { harmless } from '../../base/harmless.ts';
import { SignetError } from '../../base/errors.ts';
import type { ErrorCode } from '../../base/errors.ts';
import type { JsonAnswer } from '../remote/json-http.ts';

/** https://google.aip.dev/193 */
const failureSchema = z.object({
  error: z.object({
    status: z.string().optional(),
    message: z.string().optional(),
    details: z
      .array(z.object({ '@type': z.string().optional(), reason: z.string().optional(), retryDelay: z.string().optional() }))
      .optional(),
  }),
});

const patienceMs = 1000;
/** Reasons of a 403 that no permission cures. */
const misconfigured = new Set(['SERVICE_DISABLED', 'BILLING_DISABLED', 'CONSUMER_INVALID']);

/**
 * What an answer other than 200 means. The message has Google's status and what to look at; Google's own text, which tells
 * projects and accounts, is the cause, for the log.
 */
export function googleFailure(permission: string, resource: string, answer: JsonAnswer, retryAfterMs: number | undefined): SignetError {
  const parsed = failureSchema.safeParse(answer.body);
  const failure = parsed.success ? parsed.data.error : undefined;
  const status = failure?.status !== undefined && /^[A-Z_]{1,40}$/.test(failure.status) ? failure.status : `status ${answer.status}`;
  const details = failure?.details ?? [];
  const reason = details.find((detail) => detail.reason !== undefined)?.reason ?? '';
  const cause = failure?.message === undefined ? undefined : new Error(harmless(failure.message.slice(0, 1000)));
  const fail = (code: ErrorCode, what: string, more: { readonly retryAfterMs?: number } = {}): SignetError =>
    new SignetError(code, `Google answered with ${status}: ${what}`, { cause, ...more });

  if (answer.status === 429 || status === 'RESOURCE_EXHAUSTED') {
    const delay = details.map((detail) => delayMs(detail.retryDelay)).find((ms) => ms !== undefined);
    return fail('AUTHORITY_THROTTLED', 'its quota is used up', { retryAfterMs: delay ?? retryAfterMs ?? patienceMs });
  }
  // 409 is a change of the same thing at the same time, or a request that another try of ours has made.
  if (answer.status >= 500 || answer.status === 409) return fail('AUTHORITY_UNAVAILABLE', 'the service is in trouble');
  if (answer.status === 401) return fail('AUTHORITY_REFUSED', "Signet's Google credential is not accepted; look at it");
  if (misconfigured.has(reason)) return fail('AUTHORITY_MISCONFIGURED', `the API is not usable in the project of ${resource} (${reason})`);
  if (answer.status === 403)
    return fail('AUTHORITY_REFUSED', `the identity that Signet runs as needs the permission ${permission} on ${resource}`);
  if (answer.status === 404) return fail('AUTHORITY_MISCONFIGURED', `there is no ${resource}`);
  if (status === 'FAILED_PRECONDITION') return fail('AUTHORITY_MISCONFIGURED', `look at the state of ${resource}`);
  return fail('AUTHORITY_REFUSED', "the request is not accepted; the log has Google's reason");
}

/** A protobuf Duration in JSON: `1.5s`. */
function delayMs(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,6}(\.\d{1,9})?s$/.test(text)) return undefined;
  return Math.min(Number(text.slice(0, -1)) * 1000, 300_000);
}
