import { z } from 'zod';
import { parseDuration } from '../base/duration.ts';
import { SignetError } from '../base/errors.ts';
import { patternProblem } from '../spiffe/pattern.ts';

/** The kinds of values that settings have. `format` tells load.ts and the reference page which is which. */
export const day = 86_400_000;

export function duration(limits: { readonly min?: number; readonly max?: number } = {}) {
  return z
    .string()
    .transform((text, context) => {
      try {
        const ms = parseDuration(text);
        if (ms < (limits.min ?? 1)) context.addIssue({ code: 'custom', message: `${text} is too short` });
        if (limits.max !== undefined && ms > limits.max) context.addIssue({ code: 'custom', message: `${text} is too long` });
        return ms;
      } catch (error) {
        context.addIssue({ code: 'custom', message: SignetError.from(error).message });
        return z.NEVER;
      }
    })
    .meta({ format: 'duration' });
}

export const path = () => z.string().min(1).max(4096).meta({ format: 'path' });
export const address = () =>
  z
    .string()
    .regex(/^(?:\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):\d{1,5}$/, {
      error: 'must be HOST:PORT, an IPv6 host in brackets',
      abort: true,
    })
    .refine((text) => Number(text.slice(text.lastIndexOf(':') + 1)) <= 65_535, 'the port must be 0 to 65535')
    .meta({ format: 'address' });
export const name = () => z.string().regex(/^[a-z][a-z0-9-]{0,62}$/, 'must be 1 to 63 of a-z, 0-9 and "-", a letter first');
/** A text whose form another folder judges: it says what is wrong, or undefined. */
export const judged = (problem: (text: string) => string | undefined) =>
  z.string().superRefine((text, context) => {
    const message = problem(text);
    if (message !== undefined) context.addIssue({ code: 'custom', message });
  });
export const pattern = () => judged(patternProblem);
export const count = (max: number) => z.int().min(1).max(max);

/** An issuer's name is compared octet by octet, and clients append paths to it (OpenID Connect Discovery §2, §4.1). */
export function issuerUrlProblem(text: string): string | undefined {
  if (text.length > 1024) return 'is longer than 1024 characters';
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'https:') return 'must be an https:// URL';
  if (url.username !== '' || url.password !== '') return 'must not have a user or a password';
  if (text.includes('?') || text.includes('#')) return 'must have neither a query nor a fragment';
  if (text.endsWith('/')) return 'must not end with a slash';
  return url.href === text || url.href === `${text}/` ? undefined : `must be written in its usual form, with its host in lower case`;
}
