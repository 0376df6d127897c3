import { createHash } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { abortable, deadlineSignal } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import type { SpiffeId, TrustDomain } from '../spiffe/id.ts';
import { pathOf, trustDomainOf } from '../spiffe/id.ts';
import { isReservedPath } from '../spiffe/reserved-path.ts';
import type { Certificate } from '../x509/certificate.ts';
import { verifySvid } from '../x509/chain.ts';
import { authenticationFailed } from './authentication-failure.ts';
import type { Authenticator } from './authenticator.ts';
import type { Caller } from './caller.ts';
import { createExpiringMap } from './expiring-map.ts';

/** What was recorded when a certificate was issued. */
export interface IssuedFacts {
  readonly spiffeId: string;
  /** Empty if it was issued to a bearer without an instance. */
  readonly instance: string;
  readonly issuer: string;
  /** When a token last proved this bearer, in ms. */
  readonly tokenSeenAt: number;
  readonly spkiSha256: string;
  readonly keyMode?: string | undefined;
}

export interface CertificateAuthenticatorOptions {
  readonly trustDomain: TrustDomain;
  /** DER of the roots that the trust bundle has now. */
  readonly anchors: () => readonly Buffer[];
  /** By serial in lower-case hex, as x509/certificate.ts writes it. */
  readonly issued: (serial: string) => Promise<IssuedFacts | undefined>;
  /** How long after the last token a certificate may stand for it. */
  readonly reauthenticateAfterMs: number;
  readonly clock: Clock;
  /** Whether the issuer that once proved this identity may still make it; a token authenticator's `allows`. */
  readonly allows?: ((issuer: string, spiffeId: SpiffeId) => boolean) | undefined;
}

interface Proven {
  readonly facts: IssuedFacts;
  readonly spiffeId: SpiffeId;
  /** Hex SHA-256 of the root that it chains to. */
  readonly anchor: string;
  readonly notBefore: number;
  readonly ends: number;
}

const longestCachedMs = 30_000;
const cacheEntries = 10_000;
const longestChain = 6;
const lookUpMs = 5000;

/**
 * Renewal by a certificate of our own (mTLS). TLS verified the chain when the connection was made; here it is verified
 * again, since a resumed session or a long connection outlives changes of roots, and since TLS knows nothing of SPIFFE
 * or of our records: only a certificate that we issued, to this very key, counts.
 */
export function createCertificateAuthenticator(options: CertificateAuthenticatorOptions): Authenticator {
  const { clock, trustDomain } = options;
  const cache = createExpiringMap<Proven>(cacheEntries);
  let hashedAnchors: { readonly of: readonly Buffer[]; readonly hashes: ReadonlySet<string> } | undefined;

  function anchorHashes(): ReadonlySet<string> {
    const anchors = options.anchors();
    if (hashedAnchors?.of !== anchors) hashedAnchors = { of: anchors, hashes: new Set(anchors.map(sha256)) };
    return hashedAnchors.hashes;
  }

  async function prove(chain: readonly Buffer[], now: number, signal: AbortSignal): Promise<Proven> {
    const { certificate, spiffeId, anchor } = verifyOurs(chain, now);
    const facts = await lookUp(certificate.serial, signal);
    if (!facts) throw authenticationFailed('unknown-certificate', `serial ${certificate.serial} was never issued`);
    // A CA below us can sign itself a leaf with its own serial and key: what it holds for its workloads is no credential here.
    if (facts.keyMode === 'intermediate') throw authenticationFailed('unknown-certificate', `serial ${certificate.serial} is a CA's`);
    if (facts.spiffeId !== spiffeId || facts.spkiSha256 !== certificate.spkiSha256) {
      throw authenticationFailed('unknown-certificate', `serial ${certificate.serial} was issued for another name or key`);
    }
    const ends = Math.min(certificate.notAfter, facts.tokenSeenAt + options.reauthenticateAfterMs);
    return { facts, spiffeId, anchor, notBefore: certificate.notBefore, ends };
  }

  function verifyOurs(chain: readonly Buffer[], now: number): { certificate: Certificate; spiffeId: SpiffeId; anchor: string } {
    if (chain.length > longestChain) throw authenticationFailed('bad-certificate', `a chain of ${chain.length} certificates`);
    const anchors = options.anchors();
    const withoutRoot = chain.filter((der, i) => i === 0 || !anchors.some((anchor) => anchor.equals(der)));
    let fault: unknown;
    // One root at a time, to know which of them it hangs on.
    for (const anchor of anchors) {
      try {
        const { certificate, spiffeId } = verifySvid(withoutRoot, [anchor], now);
        if (trustDomainOf(spiffeId) !== trustDomain) throw authenticationFailed('bad-certificate', 'it is of another trust domain');
        if (isReservedPath(pathOf(spiffeId))) throw authenticationFailed('bad-certificate', "its name is the control plane's own");
        return { certificate, spiffeId, anchor: sha256(anchor) };
      } catch (error) {
        fault = error;
      }
    }
    if (fault instanceof SignetError && fault.code === 'UNAUTHENTICATED') throw fault;
    throw authenticationFailed('bad-certificate', fault instanceof SignetError ? fault.message : 'there is no root to verify it by');
  }

  async function lookUp(serial: string, signal: AbortSignal): Promise<IssuedFacts | undefined> {
    try {
      return await abortable(options.issued(serial), deadlineSignal(lookUpMs, signal));
    } catch (error) {
      if (signal.aborted) throw error;
      throw new SignetError('IDENTITY_SOURCE_UNAVAILABLE', 'the record of this certificate can not be read now', {
        cause: error,
        retryAfterMs: 1000,
      });
    }
  }

  return {
    async authenticate(credentials, signal): Promise<Caller> {
      const [leaf] = credentials.peerChain;
      if (!leaf) throw authenticationFailed('no-credential', 'neither a token nor a verified client certificate was shown');
      const now = clock.now();
      const fingerprint = sha256(leaf);
      let proven = cache.get(fingerprint, now);
      if (!proven || !anchorHashes().has(proven.anchor) || now < proven.notBefore) {
        proven = await prove(credentials.peerChain, now, signal);
        cache.set(fingerprint, proven, Math.min(proven.ends, now + longestCachedMs));
      }
      const { facts, spiffeId } = proven;
      if (proven.ends <= now)
        throw authenticationFailed('reauthentication-due', `its last token was seen at ${new Date(facts.tokenSeenAt).toISOString()}`);
      if (options.allows && !options.allows(facts.issuer, spiffeId)) {
        throw authenticationFailed('not-allowed', `issuer "${facts.issuer}" may no longer make ${pathOf(spiffeId)}`);
      }
      return {
        issuer: facts.issuer,
        subject: spiffeId,
        spiffeId,
        instance: facts.instance === '' ? undefined : facts.instance,
        authenticatedBy: 'certificate',
        credentialEnds: proven.ends,
        tokenSeenAt: facts.tokenSeenAt,
        provedBy: `certificate ${facts.issuer} ${proven.anchor}`,
      };
    },
    stillProved(caller) {
      const [kind, , anchor] = caller.provedBy.split(' ');
      if (kind !== 'certificate' || anchor === undefined || caller.credentialEnds <= clock.now() || !anchorHashes().has(anchor))
        return false;
      return options.allows?.(caller.issuer, caller.spiffeId) ?? true;
    },
    // Roots change by way of the trust bundle, which tells its own listeners; there is nothing else here to change.
    onChange: () => () => undefined,
  };
}

function sha256(der: Buffer): string {
  return createHash('sha256').update(der).digest('hex');
}
