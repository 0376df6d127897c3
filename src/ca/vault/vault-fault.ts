import { harmless } from '../../base/harmless.ts';
import { SignetError } from '../../base/errors.ts';

/** An answer of Vault's HTTP API that is no success. */
export interface VaultRefusal {
  readonly status: number;
  /** What it says in `errors`. */
  readonly reasons: readonly string[];
  readonly retryAfterMs: number | undefined;
}

const longestReason = 300;

/** Vault says by its text alone that what it was asked by doesn't exist: as 400 for a role, as 500 for an issuer. */
const missing = /unknown role|unable to find PKI issuer|unable to find issuer|signing key not found|soft-deleted key/i;
/** A role that can't serve SPIFFE's names, which have no common name. */
const unfit = /common_name field is required|requested version|issuing-certificates usage|not support signing/i;

/**
 * What the status codes of Vault and OpenBao mean for us (their API documentation, "HTTP status codes"). `asked` is method
 * and path; `secrets` are struck out of the reason, whoever put them there.
 */
export function vaultFault(label: string, asked: string, refusal: VaultRefusal, secrets: readonly string[]): SignetError {
  const { status, retryAfterMs } = refusal;
  const why = reasonOf(refusal.reasons, secrets);
  const said = (what: string): string => `${label}: ${what}${why === '' ? '' : `: ${why}`}`;
  if (status === 429)
    return new SignetError('AUTHORITY_THROTTLED', said('asks to be asked less often'), {
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    });
  if (status === 404)
    return new SignetError('AUTHORITY_MISCONFIGURED', said(`${asked} is not there; check mount, namespace and name in its settings`));
  if ((status === 400 || status === 500) && missing.test(why))
    return new SignetError('AUTHORITY_MISCONFIGURED', said(`${asked} names what isn't there`));
  if (status === 400 && unfit.test(why)) return new SignetError('AUTHORITY_MISCONFIGURED', said(`${asked} can't do it as it is set up`));
  if (status === 403)
    return new SignetError('AUTHORITY_REFUSED', said(`${asked} is not allowed; its token is not good or has no policy for that path`), {
      cause: forbidden,
    });
  if (status >= 400 && status < 500 && !comesBack.has(status)) return new SignetError('AUTHORITY_REFUSED', said(`${asked} was refused`));
  if (status === 503) return new SignetError('AUTHORITY_UNAVAILABLE', said('is sealed or not ready'));
  // A standby that can't forward answers with a redirect, which we don't follow: the token would go along.
  if (status >= 300 && status < 400)
    return new SignetError('AUTHORITY_UNAVAILABLE', said(`answered with a redirect (${status}); give the address of the active node`));
  return new SignetError('AUTHORITY_UNAVAILABLE', said(`${asked} failed (${status})`));
}

/** Request timeout, a replica that isn't up to date yet, and the two kinds of standby. */
const comesBack = new Set([408, 412, 472, 473]);

/** Vault says 403 to a token that is gone and to one without the policy alike. */
const forbidden = { status: 403 };

export function isForbidden(error: unknown): boolean {
  return error instanceof SignetError && error.cause === forbidden;
}

function reasonOf(reasons: readonly string[], secrets: readonly string[]): string {
  let text = reasons
    .join('; ')
    // Go's multierror lays its list out in lines.
    .replace(/\d+ errors? occurred:\s*/g, '')
    .replace(/\s*\n\s*\*?\s*/g, ' ')
    .replace(/^\s*\*\s*/, '')
    .trim();
  for (const secret of secrets) if (secret !== '') text = text.replaceAll(secret, '(secret)');
  return harmless(text.slice(0, longestReason));
}

/** Seconds or a date (RFC 9110 §10.2.3), in ms from now; undefined if it is neither or too far away to be meant. */
export function retryAfter(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined;
  const ms = /^\d{1,6}$/.test(header) ? Number(header) * 1000 : Date.parse(header) - now;
  return ms >= 0 && ms <= 3_600_000 ? ms : undefined;
}
