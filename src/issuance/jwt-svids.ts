import { randomBytes } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { BucketLimits } from '../base/token-bucket.ts';
import { createRecentMap } from '../base/recent-map.ts';
import type { Caller } from '../identity/caller.ts';
import type { Policy } from '../policy/policy.ts';
import type { SpiffeId } from '../spiffe/id.ts';
import { sha256Hex } from '../x509/keys.ts';
import { clockBehind, longestBehindMs } from './issuer.ts';
import { createRateLimiter } from './rate-limiter.ts';
import type { Recorder } from './recorder.ts';

/** JWT-SVID §3; times in whole seconds since the epoch. */
export interface JwtSvidClaims {
  readonly iss?: string;
  readonly sub: SpiffeId;
  readonly aud: readonly string[];
  readonly iat: number;
  readonly exp: number;
  readonly jti: string;
}

/** Who holds the keys. */
export interface JwtSigner {
  /** A compact JWS. Throws AUTHORITY_UNAVAILABLE. */
  sign(claims: JwtSvidClaims, signal: AbortSignal): Promise<{ readonly token: string; readonly keyId: string }>;
}

export interface JwtSvidRequest {
  readonly caller: Caller;
  readonly audience: readonly string[];
  /** Empty for the caller's own, which is the only one that it can have. */
  readonly spiffeId: string;
}

export interface JwtSvid {
  /** A bearer credential: for the caller's eyes alone. */
  readonly token: string;
  readonly spiffeId: SpiffeId;
  /** Seconds since the epoch. */
  readonly issuedAt: number;
  readonly expiresAt: number;
}

export interface JwtSvids {
  /**
   * Throws PERMISSION_DENIED, IDENTITY_DENIED, RATE_LIMITED, INVALID_ARGUMENT, TOKEN_EXPIRED, CLOCK_BEHIND or
   * AUTHORITY_UNAVAILABLE.
   */
  issue(request: JwtSvidRequest, signal: AbortSignal): Promise<JwtSvid>;
}

export interface JwtSvidsDeps {
  readonly policy: Policy;
  readonly signer: JwtSigner;
  readonly recorder: Pick<Recorder, 'audit'>;
  readonly clock: Clock;
  readonly log: Log;
  /** The `iss` of every token; without it none has one, as SPIFFE itself has no use for it. */
  readonly issuer: string | undefined;
  readonly ttlMs: number;
  /** The time of the newest issuance on record when the process started. */
  readonly newestIssuedAt: number | undefined;
  /** Per identity, over all of its instances. */
  readonly rate: BucketLimits;
}

const mostAudiences = 16;
/** As long as a SPIFFE ID, which is what most audiences are. */
const longestAudience = 2048;
const longestAudiences = 4096;
const rateEntries = 50_000;
const auditedEntries = 50_000;

/** JWT-SVIDs for callers that have proved who they are: in their own name, for the audiences that they name, for minutes. */
export function createJwtSvids(deps: JwtSvidsDeps): JwtSvids {
  const { policy, clock, log } = deps;
  const rate = createRateLimiter('JWT-SVIDs', deps.rate, rateEntries);
  const audited = createRecentMap<true>(auditedEntries);
  let newest = deps.newestIssuedAt ?? 0;

  /**
   * Each token is in the log. What is kept for good is who could speak to whom, once for each signing key: a token every
   * few minutes from everybody would be a trail that nobody reads and no disk holds.
   */
  async function audit(caller: Caller, audience: readonly string[], keyId: string, at: number): Promise<void> {
    // Hashed, so that the set is small whatever audiences clients make up. No audience has a line break.
    const fact = sha256Hex(Buffer.from([keyId, caller.issuer, caller.subject, caller.spiffeId, ...audience].join('\n')));
    if (audited.get(fact)) return;
    await deps.recorder.audit({
      at,
      actor: `${caller.issuer} ${caller.subject}`,
      action: 'jwt.issue',
      subject: caller.spiffeId,
      detail: `key ${keyId} audience ${audience.join(' ')}`,
    });
    audited.set(fact, true);
  }

  return {
    async issue({ caller, audience: asked, spiffeId }, signal) {
      const now = clock.now();
      if (newest - now > longestBehindMs) throw clockBehind(newest - now);
      policy.grant(caller);
      rate.take(caller.spiffeId, now);
      const audience = checkAudience(asked);
      // Whether another's exists, or is one at all, is none of the caller's business.
      if (spiffeId !== '' && spiffeId !== caller.spiffeId)
        throw new SignetError('PERMISSION_DENIED', 'a JWT-SVID is for its own caller alone: ask for your SPIFFE ID, or for none');
      const iat = Math.floor(now / 1000);
      // A bearer token must not outlive the proof that it was given for.
      const exp = Math.floor(Math.min(now + deps.ttlMs, caller.credentialEnds) / 1000);
      if (exp <= iat) throw new SignetError('TOKEN_EXPIRED', 'the credential that was shown ends at this moment: show a newer one');
      const jti = randomBytes(16).toString('base64url');
      const iss = deps.issuer === undefined ? {} : { iss: deps.issuer };
      const { token, keyId } = await deps.signer.sign({ ...iss, sub: caller.spiffeId, aud: audience, iat, exp, jti }, signal);
      newest = Math.max(newest, now);
      await audit(caller, audience, keyId, now);
      // Denied while it was being made: never shown then.
      policy.grant(caller);
      log.info({ spiffeId: caller.spiffeId, instance: caller.instance, keyId, jti, exp, audiences: audience.length }, 'JWT-SVID signed');
      return { token, spiffeId: caller.spiffeId, issuedAt: iat, expiresAt: exp };
    },
  };
}

/** Each once, in the order given. Throws INVALID_ARGUMENT; the message holds nothing of the input. */
function checkAudience(asked: readonly string[]): readonly string[] {
  // JWT-SVID §3.2: at least one, and as few as can be.
  if (asked.length === 0) throw invalid('a JWT-SVID needs an audience: the name of the service that it will be shown to');
  if (asked.length > mostAudiences)
    throw invalid(`audience has ${String(asked.length)} entries; at most ${String(mostAudiences)} are allowed`);
  const audience = [...new Set(asked)];
  for (const [i, name] of asked.entries()) {
    const field = `audience[${String(i)}]`;
    if (name === '') throw invalid(`${field} is empty`);
    if (name.length > longestAudience) throw invalid(`${field} is longer than ${String(longestAudience)} characters`);
    // Somebody's mistake, which must not end up in a trail.
    if (name.startsWith('eyJ')) throw invalid(`${field} is a token; an audience is the name of a service`);
    if (/\p{Cc}/u.test(name) || !name.isWellFormed()) throw invalid(`${field} has control characters`);
  }
  if (audience.reduce((sum, { length }) => sum + length, 0) > longestAudiences)
    throw invalid(`all of audience together is longer than ${String(longestAudiences)} characters`);
  return audience;
}

function invalid(message: string): SignetError {
  return new SignetError('INVALID_ARGUMENT', message);
}
