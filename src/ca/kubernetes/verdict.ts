import { z } from 'zod';
import { harmless } from '../../base/harmless.ts';
import type { SignetError } from '../../base/errors.ts';

/** How an object that asks for a certificate stands. */
export type Verdict =
  /** `pending`: whoever signs has seen it, and says that something is missing. */
  | { readonly kind: 'waiting'; readonly pending: boolean; readonly detail: string }
  | { readonly kind: 'issued'; readonly pem: string }
  | { readonly kind: 'failed'; readonly error: SignetError };

/** A condition of a request, as both kinds of requests have them. */
export const condition = z.object({
  type: z.string(),
  status: z.string().optional(),
  reason: z.string().optional(),
  message: z.string().optional(),
});
export type Condition = z.output<typeof condition>;

const longestReason = 200;

export function conditionOf(conditions: readonly Condition[], type: string): Condition | undefined {
  return conditions.find((one) => one.type === type && one.status !== 'False' && one.status !== 'Unknown');
}

/** What whoever set the condition says, short enough for a message. */
export function saidBy({ reason, message }: Condition): string {
  const said = harmless([reason, message].filter((text) => text !== undefined && text !== '').join(': '));
  return said === '' ? 'no reason given' : said.length > longestReason ? `${said.slice(0, longestReason)}…` : said;
}
