import type { Random } from '../base/clock.ts';
import { formatDuration } from '../base/duration.ts';
import { SignetError } from '../base/errors.ts';

const secondMs = 1000;
const longestBackdatingMs = 120_000;
/** Nobody gets a certificate that is asked for beyond this, whatever the tier. */
export const longestLifeMs = 90 * 86_400_000;

export interface LifeRequest {
  /** Undefined for as long as the tier gives. */
  readonly requestedMs: number | undefined;
  readonly tierMs: number;
  /** Whether this bearer was never issued to before: its life is drawn from a wider range. */
  readonly first: boolean;
  readonly now: number;
  /** The earliest end of the CA certificates that sign. */
  readonly issuersEnd: number;
  /** When the key may be signed no longer. */
  readonly keyEnds?: number | undefined;
  readonly random: Random;
}

/** Both in ms since the epoch, whole seconds, as X.509 has them (RFC 5280 §4.1.2.5). */
export interface Life {
  readonly notBefore: number;
  readonly notAfter: number;
}

/**
 * How long a certificate. The tier caps what is asked for, silently; the life is then drawn, so that clients that renew at
 * a fixed share of it spread out by themselves even when all of them start in one minute.
 * Throws TTL_TOO_LONG, INVALID_ARGUMENT, AUTHORITY_UNAVAILABLE (the CA itself ends) or BINDING_CONFLICT (the key is too old).
 */
export function chooseLife(request: LifeRequest): Life {
  const { requestedMs, now } = request;
  if (requestedMs !== undefined) checkRequested(requestedMs);
  const longest = Math.min(requestedMs ?? request.tierMs, request.tierMs, longestLifeMs);
  const least = request.first ? 0.5 : 0.75;
  const drawn = longest * (least + (1 - least) * request.random());
  // Rounded down: what a cap allows is never exceeded, not even by a fraction of a second.
  const notAfter = wholeSeconds(Math.min(now + drawn, request.issuersEnd, request.keyEnds ?? Infinity));
  const life = notAfter - now;
  if (life < secondMs) throw tooShort(request);
  const backdating = Math.max(secondMs, Math.min(longestBackdatingMs, life / 10));
  return { notBefore: wholeSeconds(now - backdating), notAfter };
}

function checkRequested(requestedMs: number): void {
  if (!(requestedMs >= secondMs)) throw new SignetError('INVALID_ARGUMENT', 'a certificate lives at least one second');
  if (requestedMs > longestLifeMs) {
    throw new SignetError('TTL_TOO_LONG', `a certificate can be asked for at most ${formatDuration(longestLifeMs)}`);
  }
}

function tooShort(request: LifeRequest): SignetError {
  if (request.keyEnds !== undefined && request.keyEnds - request.now < 2 * secondMs) {
    return new SignetError('BINDING_CONFLICT', 'the bound key has reached its greatest age: make a new key and bind it');
  }
  if (request.issuersEnd - request.now < 2 * secondMs) {
    return new SignetError('AUTHORITY_UNAVAILABLE', 'the CA has reached the end of its own certificate');
  }
  return new SignetError('INVALID_ARGUMENT', 'the life asked for is too short to be given in whole seconds');
}

function wholeSeconds(ms: number): number {
  return Math.floor(ms / secondMs) * secondMs;
}
