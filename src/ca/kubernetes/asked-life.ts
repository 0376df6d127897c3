import type { SigningRequest } from '../authority.ts';

const mostSlackMs = 10_000;

/**
 * The seconds of life to ask a signer for that counts them from when it signs. A certificate may end earlier than wanted
 * but never later, so the time in which it may sign is taken off: a tenth of the life, at most 10 s. A signer that takes
 * longer gives too long a certificate, and it isn't used.
 */
export function askedSeconds({ notAfter }: Pick<SigningRequest, 'notAfter'>, now: number): number {
  const left = notAfter - now;
  return Math.floor((left - Math.min(mostSlackMs, left / 10)) / 1000);
}
