import type { ErrorCode } from '../base/errors.ts';
import { SignetError } from '../base/errors.ts';
import type { Terminal } from './terminal.ts';
import { harmless } from '../base/harmless.ts';
import { paintFor } from './terminal.ts';

/** What to do next, where the message itself can't know. */
const advice: Partial<Readonly<Record<ErrorCode, string>>> = {
  UNAUTHENTICATED: "check the token's audience, issuer and end; the server's log has the reason",
  TOKEN_EXPIRED: 'get a new token, or let `signet token --out FILE --watch` keep one fresh',
  IDENTITY_DENIED: 'an operator stopped this identity: `signet deny --list` shows why, `signet deny ID --lift` takes it back',
  IDENTITY_SOURCE_UNAVAILABLE: "the server can't reach the issuer's keys; try again, and look at its log",
  RATE_LIMITED: 'try again in a moment',
  OVERLOADED: 'try again in a moment',
  CLOCK_BEHIND: "set the server's clock",
};

/** One or two lines on stderr: what went wrong, and what to do next. */
export function printFailure(terminal: Terminal, error: unknown): void {
  const paint = paintFor(terminal);
  terminal.err(`${paint.red('signet:')} ${failureText(error)}\n`);
  const next = error instanceof SignetError ? advice[error.code] : undefined;
  if (next !== undefined) terminal.err(`        ${next}\n`);
}

/** The operator's own terminal is no client: what the system said is told, with the file or address that it named. */
export function failureText(error: unknown): string {
  const told = error instanceof SignetError && error.code === 'INTERNAL' && error.cause instanceof Error ? error.cause : error;
  return told instanceof Error ? told.message.split('\n').map(harmless).join('\n        ') : harmless(String(told));
}
