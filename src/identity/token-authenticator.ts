import { hash } from 'node:crypto';
import type { Clock, Random } from '../base/clock.ts';
import { abortable } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { SpiffeId, TrustDomain } from '../spiffe/id.ts';
import { pathOf } from '../spiffe/id.ts';
import { authenticationFailed, shown } from './authentication-failure.ts';
import type { Authenticator, Credentials } from './authenticator.ts';
import type { Caller, Pod } from './caller.ts';
import { instanceFromHint } from './instance-name.ts';
import type { IssuerSettings } from './issuer-settings.ts';
import { checkIssuerSettings, isReviewed } from './issuer-settings.ts';
import type { VerificationKey } from './jwk-set.ts';
import type { CompactJws } from './jws.ts';
import { longestToken, parseCompactJws, verifyJws } from './jws.ts';
import type { KeySourceLimits, KeySourceStatus } from './key-source.ts';
import { createKeySource } from './key-source.ts';
import { createListeners } from './listeners.ts';
import { createExpiringMap } from './expiring-map.ts';
import { createSharedReviews } from './shared-reviews.ts';
import { checkLife, readClaims } from './token-claims.ts';
import type { KeyIssuer, ReviewedIssuer, ServiceAccount, TokenIssuer } from './token-issuer.ts';
import { createTokenIssuer } from './token-issuer.ts';
import type { TokenReviewer } from './token-review.ts';

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
  /** For each issuer whose tokens are reviewed, by its id. */
  readonly reviewers?: ReadonlyMap<string, TokenReviewer> | undefined;
}

export interface TokenAuthenticator extends Authenticator {
  /** Reads the keys of all issuers once (resolving even if that fails), then keeps them fresh until close or abort. */
  start(signal: AbortSignal): Promise<void>;
  close(): void;
  /** Whether the named issuer may still make this identity: asked of those that a certificate proves. */
  allows(issuer: string, spiffeId: SpiffeId): boolean;
  /** The Kubernetes service account that has this identity, by the named issuer's path. */
  accountOf(issuer: string, spiffeId: SpiffeId): ServiceAccount | undefined;
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
/** Stands where a token verified here has the thumbprint of its key. */
const byReview = 'review';

/** Throws CONFIG_INVALID if the issuers' settings are wrong. */
export function createTokenAuthenticator(options: TokenAuthenticatorOptions): TokenAuthenticator {
  const { clock, log, trustDomain } = options;
  const [problem] = checkIssuerSettings(options.issuers);
  if (problem) throw new SignetError('CONFIG_INVALID', `issuer "${problem.issuer}", ${problem.field}: ${problem.message}`);

  const closed = new AbortController();
  const listeners = createListeners((error) => {
    log.error({ err: error }, 'a listener to changes of keys failed');
  });
  const cache = createExpiringMap<Verified>(options.cacheEntries ?? defaultCacheEntries);
  const changed = (): void => {
    cache.clear();
    listeners.notify();
  };
  const keyContext = { clock, log, random: options.random ?? Math.random, limits: options.keySourceLimits, changed };
  const issuers = options.issuers.map((settings): KeyIssuer | ReviewedIssuer => {
    const issuer = createTokenIssuer(settings, trustDomain);
    if (!isReviewed(settings)) return { ...issuer, keys: createKeySource(settings, keyContext) };
    const reviewer = options.reviewers?.get(settings.id);
    if (!reviewer) throw new SignetError('CONFIG_INVALID', `issuer "${settings.id}": there is no cluster to review its tokens`);
    return { ...issuer, reviewer, cacheForMs: settings.review.cacheForMs };
  });
  const keySources = issuers.flatMap((issuer) => (isReviewing(issuer) ? [] : [issuer.keys]));
  const byName = Map.groupBy(issuers, (issuer) => issuer.name);
  const byId = new Map(issuers.map((issuer) => [issuer.id, issuer]));
  const clusters = new Set(issuers.flatMap((issuer) => issuer.cluster ?? []));
  const reviews = createSharedReviews<Verified>(closed.signal);

  /** Istio's clients always send a cluster's name: it means something once any issuer has one. */
  function isOf(issuer: TokenIssuer, cluster: string | undefined): boolean {
    return cluster === undefined || clusters.size === 0 || issuer.cluster === cluster;
  }

  function issuersOf(jws: CompactJws, cluster: string | undefined): readonly (KeyIssuer | ReviewedIssuer)[] {
    const name = jws.claims['iss'];
    const named = typeof name === 'string' ? byName.get(name) : undefined;
    if (!named) throw authenticationFailed('unknown-issuer', `iss is ${shown(name)}`);
    const candidates = named.filter((issuer) => isOf(issuer, cluster));
    if (candidates.length === 0) throw authenticationFailed('unknown-cluster', `clusterid is ${shown(cluster)}, iss ${shown(name)}`);
    return candidates;
  }

  function verify(jws: CompactJws, candidates: readonly KeyIssuer[], credentials: Credentials, cacheKey: string): Caller {
    const now = clock.now();
    const verified = check(jws, candidates, now);
    const caller = toCaller(verified, credentials, now);
    cache.set(cacheKey, verified, Math.min(verified.ends, now + longestCachedMs));
    return caller;
  }

  /** Asks the issuers for a key that none of them has shown yet. */
  async function learnKey(keyId: string, candidates: readonly KeyIssuer[], signal: AbortSignal): Promise<void> {
    const fresh = await Promise.all(candidates.map((issuer) => issuer.keys.refresh(signal)));
    if (candidates.some((issuer) => issuer.keys.find(keyId))) return;
    if (fresh.every(Boolean)) throw authenticationFailed('unknown-key', `kid is ${shown(keyId)}`);
    // The key may well be there to read: the fault is not the bearer's.
    const details = { retryAfterMs: 1000 };
    throw new SignetError('IDENTITY_SOURCE_UNAVAILABLE', 'the keys that would verify this token can not be read now', details);
  }

  /** The issuer whose published key made the signature. Issuers that share an `iss` are told apart by nothing else. */
  function signerOf(jws: CompactJws, candidates: readonly KeyIssuer[]): { issuer: KeyIssuer; key: VerificationKey } {
    const proven: { issuer: KeyIssuer; key: VerificationKey }[] = [];
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

  function check(jws: CompactJws, candidates: readonly KeyIssuer[], now: number): Verified {
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

  /** Asks the token's own cluster, unless the token itself says that this is of no use. One review at a time of one token. */
  async function reviewed(
    issuer: ReviewedIssuer,
    jws: CompactJws,
    credentials: Credentials,
    token: string,
    signal: AbortSignal,
  ): Promise<Caller> {
    const cacheKey = hash('sha256', token, 'base64url');
    const claims = readClaims(jws.claims);
    // Nobody has said yet that it is genuine, so its bearer learns nothing of when it ended.
    if (claims.ends <= clock.now())
      throw authenticationFailed('expired', `it says that it ended at ${new Date(claims.ends).toISOString()}`);
    checkLife(claims, clock.now(), options.maxTokenLifetimeMs);
    checkAudience(issuer, claims.audiences, credentials);
    if (!issuer.algorithms.has(jws.algorithm))
      throw authenticationFailed('bad-signature', `${jws.algorithm} is none of the issuer's algorithms`);
    const verified = await abortable(
      reviews.of(cacheKey, async (bounded) => {
        const review = await issuer.reviewer.review(token, [...issuer.audiences], bounded);
        if (review.subject !== claims.subject)
          throw authenticationFailed('claim', `sub is ${shown(claims.subject)}, but the review says ${shown(review.subject)}`);
        const { subject, audiences } = review;
        const found = { issuer, subject, ...issuer.identify(review.claims), audiences, ends: claims.ends, thumbprint: byReview };
        cache.set(cacheKey, found, Math.min(claims.ends, clock.now() + issuer.cacheForMs));
        return found;
      }),
      signal,
    );
    return toCaller(verified, credentials, clock.now());
  }

  /** A token for one API must open no other: the audience has to be the API's, the issuer's and the token's. */
  function checkAudience(issuer: TokenIssuer, audiences: readonly string[], credentials: Credentials): void {
    if (credentials.audiences.some((audience) => issuer.audiences.has(audience) && audiences.includes(audience))) return;
    throw authenticationFailed('wrong-audience', `aud is ${audiences.slice(0, 4).map(shown).join(', ')}`);
  }

  function toCaller(verified: Verified, credentials: Credentials, now: number): Caller {
    const { issuer } = verified;
    if (!isOf(issuer, credentials.cluster)) throw authenticationFailed('unknown-cluster', `clusterid is ${shown(credentials.cluster)}`);
    checkAudience(issuer, verified.audiences, credentials);
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
      const candidates = issuersOf(jws, credentials.cluster);
      const [first, ...others] = candidates;
      if (first && isReviewing(first) && others.length === 0) return reviewed(first, jws, credentials, token, signal);
      const keyed = candidates.flatMap((issuer) => (isReviewing(issuer) ? [] : [issuer]));
      // A token is never shown to one cluster after the other: it is another one's credential.
      if (keyed.length < candidates.length)
        throw authenticationFailed(
          'ambiguous-issuer',
          `${candidates.map(({ id }) => id).join(', ')} have this iss, and no clusterid says which`,
        );
      if (keyed.some((issuer) => issuer.keys.find(jws.keyId))) return verify(jws, keyed, credentials, cacheKey);
      return learnKey(jws.keyId, keyed, signal).then(() => verify(jws, keyed, credentials, cacheKey));
    },
    stillProved(caller) {
      const [kind, issuerId, thumbprint] = caller.provedBy.split(' ');
      if (kind !== 'token' || issuerId === undefined || thumbprint === undefined || caller.credentialEnds <= clock.now()) return false;
      const issuer = byId.get(issuerId);
      if (!issuer?.allows(pathOf(caller.spiffeId))) return false;
      return isReviewing(issuer) ? thumbprint === byReview : issuer.keys.has(thumbprint);
    },
    onChange: (listener) => listeners.add(listener),
    async start(signal) {
      const running = AbortSignal.any([signal, closed.signal]);
      await Promise.all(keySources.map((keys) => keys.start(running)));
    },
    close() {
      closed.abort();
      cache.clear();
    },
    allows: (issuerId, spiffeId) => byId.get(issuerId)?.allows(pathOf(spiffeId)) ?? false,
    accountOf: (issuerId, spiffeId) => byId.get(issuerId)?.accountOf(spiffeId),
    keySources: () => keySources.map((keys) => keys.status()),
  };
}

function isReviewing(issuer: KeyIssuer | ReviewedIssuer): issuer is ReviewedIssuer {
  return 'reviewer' in issuer;
}
