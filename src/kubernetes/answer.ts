import { z } from 'zod';
import { harmless } from '../base/harmless.ts';

/**
 * What kept a call from being answered as asked. Whose fault that is depends on the call, so these are values and not
 * errors: identity and the CA backends make errors of their own codes from them.
 */
export type ApiFailureKind =
  | 'away' // no connection, no answer in time, 5xx
  | 'throttled' // 429
  | 'unauthenticated' // 401: our credential is not taken
  | 'forbidden' // 403: RBAC
  | 'not-found'
  | 'conflict' // 409: exists already, or was changed in between
  | 'gone' // 410: that resource version is no longer there
  | 'refused' // any other 4xx, and redirects
  | 'malformed'; // it answered, but not what the API says

export interface ApiFailure {
  readonly kind: ApiFailureKind;
  /** Names server, call and reason, for operators; no credential, bounded and printable. */
  readonly message: string;
  readonly retryAfterMs: number | undefined;
  readonly cause?: unknown;
}

export type ApiAnswer<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly failure: ApiFailure };

const longestReason = 300;
/** metav1.Status, what of it may be told. */
const statusSchema = z.object({
  message: z.string().optional(),
  details: z.object({ retryAfterSeconds: z.number().min(0).optional() }).optional(),
});

/** A status that isn't a success, and what came with it. */
export function failureFrom(call: string, status: number, retryAfter: string | undefined, body: string): ApiFailure {
  const parsed = statusSchema.safeParse(parseJson(body));
  const reason = parsed.success && parsed.data.message !== undefined ? `: ${harmless(parsed.data.message.slice(0, longestReason))}` : '';
  const seconds =
    parsed.data?.details?.retryAfterSeconds ?? (retryAfter !== undefined && /^\d{1,5}$/.test(retryAfter) ? Number(retryAfter) : undefined);
  return {
    kind: kindOf(status),
    message: `${call} was answered with ${status}${reason}`,
    retryAfterMs: seconds === undefined ? undefined : Math.min(seconds, 3600) * 1000,
  };
}

export function failure(kind: ApiFailureKind, message: string, cause?: unknown): ApiFailure {
  return { kind, message, retryAfterMs: undefined, ...(cause === undefined ? {} : { cause }) };
}

function kindOf(status: number): ApiFailureKind {
  if (status >= 500) return 'away';
  switch (status) {
    case 401:
      return 'unauthenticated';
    case 403:
      return 'forbidden';
    case 404:
      return 'not-found';
    case 409:
      return 'conflict';
    case 410:
      return 'gone';
    case 429:
      return 'throttled';
    default:
      return 'refused';
  }
}

/** Undefined for what is no JSON: a SyntaxError quotes its input, and that may be a secret's. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
