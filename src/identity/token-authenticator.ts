import { hash } from 'node:crypto';
import type { Clock, Random } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { SpiffeId, TrustDomain } from '../spiffe/id.ts';
import { pathOf } from '../spiffe/id.ts';
import { authenticationFailed, shown } from './authentication-failure.ts';
import type { Authenticator, Credentials } from './authenticator.ts';
import type { Caller, Pod } from './caller.ts';
import { instanceFromHint } from './instance-name.ts';
import type { IssuerSettings } from './issuer-settings.ts';
import { checkIssuerSettings } from './issuer-settings.ts';
import type { VerificationKey } from './jwk-set.ts';
import type { CompactJws } from './jws.ts';
import { longestToken, parseCompactJws, verifyJws } from './jws.ts';
import type { KeySourceLimits, KeySourceStatus } from './key-source.ts';
import { createKeySource } from './key-source.ts';
import { createListeners } from './listeners.ts';
import { createRecentMap } from './recent-map.ts';
import { checkLife, readClaims } from './token-claims.ts';
import type { TokenIssuer } from './token-issuer.ts';
import { createTokenIssuer } from './token-issuer.ts';

export interface TokenAuthenticatorOptions {
  readonly issuers: readonly IssuerSettings[];
  readonly trustDomain: TrustDomain;
  /** exp − iat over this is refused. */
  readonly maxTokenLifetimeMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly random?: Random | undefined;
  readonly cacheEntries?: number | undefined;
  /** For all sources alike, instead of the defaults for files and for URLs. */
  readonly keySourceLimits?: KeySourceLimits | undefined;
}

export interface TokenAuthenticator extends Authenticator {
  /** Reads the keys of all issuers once (resolving even if that fails), then keeps them fresh until close or abort. */
  start(signal: AbortSignal): Promise<void>;
  close(): void;
  /** Whether the named issuer may still make this identity: asked of those that a certificate proves. */
  allows(issuer: string, spiffeId: SpiffeId): boolean;
  keySources(): readonly KeySourceStatus[];
}

/** What a verified token proves, until it ends or its key is taken out. Policy is not in it: that is asked at every use. */
interface Verified {
  readonly issuer: TokenIssuer;
  readonly subject: string;
  readonly spiffeId: SpiffeId;
  readonly instance: string | undefined;
  readonly pod: Pod | undefined;
  readonly audiences: readonly string[];
  readonly ends: number;
  readonly thumbprint: string;
}

const longestCachedMs = 5 * 60_000;
const defaultCacheEntries = 10_000;

/** Throws CONFIG_INVALID if the issuers' settings are wrong. */
export function createTokenAuthenticator(options: TokenAuthenticatorOptions): TokenAuthenticator {
  const { clock, log, trustDomain } = options;
  const [problem] = checkIssuerSettings(options.issuers);
  if (problem) throw new SignetError('CONFIG_INVALID', `issuer "${problem.issuer}", ${problem.field}: ${problem.message}`);

  const closed = new AbortController();
  const listeners = createListeners((error) => {
    log.error({ err: error }, 'a listener to changes of keys failed');
  });
  const cache = createRecentMap<Verified>(options.cacheEntries ?? defaultCacheEntries);
  const changed = (): void => {
    cache.clear();
    listeners.notify();
  };
  const issuers = options.issuers.map((settings) => {
    const context = { clock, log, random: options.random ?? Math.random, limits: options.keySourceLimits, changed };
    return createTokenIssuer(settings, trustDomain, createKeySource(settings, context));
  });
  const byName = Map.groupBy(issuers, (issuer) => issuer.name);
  const byId = new Map(issuers.map((issuer) => [issuer.id, issuer]));

  function issuersOf(jws: CompactJws): readonly TokenIssuer[] {
    const name = jws.claims['iss'];
    const candidates = typeof name === 'string' ? byName.get(name) : undefined;
    if (!candidates) throw authenticationFailed('unknown-issuer', `iss is ${shown(name)}`);
    return candidates;
  }

  function verify(jws: CompactJws, candidates: readonly TokenIssuer[], credentials: Credentials, cacheKey: string): Caller {
    const now = clock.now();
    const verified = check(jws, candidates, now);
    const caller = toCaller(verified, credentials, now);
    cache.set(cacheKey, verified, Math.min(verified.ends, now + longestCachedMs));
    return caller;
  }

  /** Asks the issuers for a key that none of them has shown yet. */
  async function learnKey(keyId: string, candidates: readonly TokenIssuer[], signal: AbortSignal): Promise<void> {
    const fresh = await Promise.all(candidates.map((issuer) => issuer.keys.refresh(signal)));
    if (candidates.some((issuer) => issuer.keys.find(keyId))) return;
    if (fresh.every(Boolean)) throw authenticationFailed('unknown-key', `kid is ${shown(keyId)}`);
    // The key may well be there to read: the fault is not the bearer's.
    const details = { retryAfterMs: 1000 };
    throw new SignetError('IDENTITY_SOURCE_UNAVAILABLE', 'the keys that would verify this token can not be read now', details);
  }

  /** The issuer whose published key made the signature. Issuers that share an `iss` are told apart by nothing else. */
  function signerOf(jws: CompactJws, candidates: readonly TokenIssuer[]): { issuer: TokenIssuer; key: VerificationKey } {
    const proven: { issuer: TokenIssuer; key: VerificationKey }[] = [];
    for (const issuer of candidates) {
      const key = issuer.keys.find(jws.keyId);
      const scheme = issuer.algorithms.has(jws.algorithm) ? key?.schemes.get(jws.algorithm) : undefined;
      if (key && scheme && verifyJws(jws, scheme)) proven.push({ issuer, key });
    }
    const [first, ...others] = proven;
    if (!first) throw authenticationFailed('bad-signature', `kid ${shown(jws.keyId)} with ${jws.algorithm} does not verify it`);
    if (others.length > 0) {
      throw authenticationFailed('ambiguous-issuer', `${proven.map(({ issuer }) => issuer.id).join(', ')} have the same key and iss`);
    }
    return first;
  }

  function check(jws: CompactJws, candidates: readonly TokenIssuer[], now: number): Verified {
    const { issuer, key } = signerOf(jws, candidates);
    const claims = readClaims(jws.claims);
    checkLife(claims, now, options.maxTokenLifetimeMs);
    const { spiffeId, instance, pod } = issuer.identify(jws.claims);
    return {
      issuer,
      subject: claims.subject,
      spiffeId,
      instance,
      pod,
      audiences: claims.audiences,
      ends: claims.ends,
      thumbprint: key.thumbprint,
    };
  }

  function toCaller(verified: Verified, credentials: Credentials, now: number): Caller {
    const { issuer } = verified;
    // A token for one API must open no other: the audience has to be the API's, the issuer's and the token's.
    if (!credentials.audiences.some((audience) => issuer.audiences.has(audience) && verified.audiences.includes(audience))) {
      throw authenticationFailed('wrong-audience', `aud is ${verified.audiences.slice(0, 4).map(shown).join(', ')}`);
    }
    return {
      issuer: issuer.id,
      subject: verified.subject,
      spiffeId: verified.spiffeId,
      instance: verified.instance ?? instanceFromHint(credentials.instanceHint),
      authenticatedBy: 'token',
      credentialEnds: verified.ends,
      tokenSeenAt: now,
      provedBy: `token ${issuer.id} ${verified.thumbprint}`,
      pod: verified.pod,
    };
  }

  return {
    authenticate(credentials, signal) {
      const { token } = credentials;
      if (token === undefined || token === '') throw authenticationFailed('no-credential', 'no token was sent');
      if (token.length > longestToken) throw authenticationFailed('malformed', `the token has ${token.length} characters`);
      const cacheKey = hash('sha256', token, 'base64url');
      const now = clock.now();
      const hit = cache.get(cacheKey, now);
      if (hit) return toCaller(hit, credentials, now);
      const jws = parseCompactJws(token);
      const candidates = issuersOf(jws);
      if (candidates.some((issuer) => issuer.keys.find(jws.keyId))) return verify(jws, candidates, credentials, cacheKey);
      return learnKey(jws.keyId, candidates, signal).then(() => verify(jws, candidates, credentials, cacheKey));
    },
    stillProved(caller) {
      const [kind, issuerId, thumbprint] = caller.provedBy.split(' ');
      if (kind !== 'token' || issuerId === undefined || thumbprint === undefined || caller.credentialEnds <= clock.now()) return false;
      const issuer = byId.get(issuerId);
      return issuer !== undefined && issuer.keys.has(thumbprint) && issuer.allows(pathOf(caller.spiffeId));
    },
    onChange: (listener) => listeners.add(listener),
    async start(signal) {
      const running = AbortSignal.any([signal, closed.signal]);
      await Promise.all(issuers.map((issuer) => issuer.keys.start(running)));
    },
    close() {
      closed.abort();
      cache.clear();
    },
    allows: (issuerId, spiffeId) => byId.get(issuerId)?.allows(pathOf(spiffeId)) ?? false,
    keySources: () => issuers.map((issuer) => issuer.keys.status()),
  };
}
