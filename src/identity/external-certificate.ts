import type { Clock } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { SpiffeId, TrustDomain } from '../spiffe/id.ts';
import { pathOf } from '../spiffe/id.ts';
import { parseCertificate } from '../x509/certificate.ts';
import type { Certificate } from '../x509/certificate.ts';
import { verifyChain } from '../x509/chain.ts';
import { sha256Hex } from '../x509/keys.ts';
import { purposeOid } from '../x509/oids.ts';
import { authenticationFailed } from './authentication-failure.ts';
import type { Authenticator } from './authenticator.ts';
import type { Caller } from './caller.ts';
import { certificateClaims } from './certificate-claims.ts';
import type { ExternalCa, ExternalCaFile } from './external-ca.ts';
import { compileIdentityRule } from './identity-rule.ts';
import type { IdentityRule, IdentityRuleSettings } from './identity-rule.ts';
import { instanceFromHint } from './instance-name.ts';
import { createExpiringMap } from './expiring-map.ts';

/** Certificates of one external CA, and the identities that they stand for. */
export interface ExternalCertificateSource extends IdentityRuleSettings {
  readonly ca: Pick<ExternalCaFile, 'current' | 'onChange'>;
}

export interface ExternalCertificateAuthenticator extends Authenticator {
  /** Whether the named source may still make this identity. */
  allows(source: string, spiffeId: SpiffeId): boolean;
  /** Whether a leaf is of one of these CAs, by their names and keys alone: who judges it is decided by that. */
  claims(leaf: Buffer): boolean;
}

interface Source {
  readonly id: string;
  readonly rule: IdentityRule;
  readonly ca: () => ExternalCa;
}

interface Proven {
  readonly source: Source;
  readonly anchor: string;
  readonly spiffeId: SpiffeId;
  readonly instance: string | undefined;
  readonly subject: string;
  readonly notBefore: number;
  readonly ends: number;
}

const longestCachedMs = 30_000;
const cacheEntries = 10_000;
const longestChain = 6;

/**
 * A client certificate of somebody else's CA (a cloud's instance certificates, a factory's, an older PKI's), mapped to an
 * identity by rule. TLS has verified its possession of the key; path, dates and purpose are judged here, by the source's
 * own anchors and no others.
 */
export function createExternalCertificateAuthenticator(options: {
  readonly sources: readonly ExternalCertificateSource[];
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
}): ExternalCertificateAuthenticator {
  const { clock, trustDomain } = options;
  const sources: readonly Source[] = options.sources.map((settings) => ({
    id: settings.id,
    rule: compileIdentityRule(settings, trustDomain),
    ca: settings.ca.current,
  }));
  const cache = createExpiringMap<Proven>(cacheEntries);

  function prove(leafDer: Buffer, now: number): Proven {
    const leaf = parsed(leafDer);
    const proven = sources.flatMap((source) => anchorOf(source, leaf, now));
    const [first, ...others] = proven;
    if (!first) throw authenticationFailed('bad-certificate', 'it leads to none of the external CAs, or it has ended');
    // Two CAs of one name and key: which rule holds must not be a matter of their order.
    if (others.some(({ source }) => source !== first.source)) {
      throw authenticationFailed('ambiguous-issuer', `${proven.map(({ source }) => source.id).join(', ')} have the same CA`);
    }
    checkPurpose(leaf);
    const { spiffeId, instance } = first.source.rule.identify(certificateClaims(leaf));
    return { ...first, spiffeId, instance, subject: leaf.subjectText, notBefore: leaf.notBefore, ends: leaf.notAfter };
  }

  function anchorOf(source: Source, leaf: Certificate, now: number): { source: Source; anchor: string }[] {
    const { anchors, intermediates } = source.ca();
    const chain = [leaf.der, ...issuersOf(leaf, intermediates)];
    // One at a time, to know which of them it hangs on.
    return anchors.filter((anchor) => leadsTo(chain, anchor, now)).map((anchor) => ({ source, anchor: sha256Hex(anchor) }));
  }

  function isTrusted(source: Source, anchor: string): boolean {
    return source.ca().anchors.some((der) => sha256Hex(der) === anchor);
  }

  return {
    authenticate(credentials): Caller {
      const [leaf] = credentials.peerChain;
      if (!leaf) throw authenticationFailed('no-credential', 'no verified client certificate was shown');
      const now = clock.now();
      const fingerprint = sha256Hex(leaf);
      let proven = cache.get(fingerprint, now);
      if (!proven || !isTrusted(proven.source, proven.anchor) || now < proven.notBefore) {
        proven = prove(leaf, now);
        cache.set(fingerprint, proven, Math.min(proven.ends, now + longestCachedMs));
      }
      if (proven.ends <= now) throw authenticationFailed('expired', `it ended at ${new Date(proven.ends).toISOString()}`);
      return {
        issuer: proven.source.id,
        subject: proven.subject,
        spiffeId: proven.spiffeId,
        instance: proven.instance ?? instanceFromHint(credentials.instanceHint),
        authenticatedBy: 'external-certificate',
        credentialEnds: proven.ends,
        tokenSeenAt: now,
        provedBy: `external-certificate ${proven.source.id} ${proven.anchor}`,
      };
    },
    stillProved(caller) {
      const [kind, id, anchor] = caller.provedBy.split(' ');
      if (kind !== 'external-certificate' || anchor === undefined || caller.credentialEnds <= clock.now()) return false;
      const source = sources.find((one) => one.id === id);
      return source !== undefined && isTrusted(source, anchor) && source.rule.allows(pathOf(caller.spiffeId));
    },
    onChange(listener) {
      const stops = options.sources.map(({ ca }) => ca.onChange(listener));
      return () => {
        for (const stop of stops) stop();
      };
    },
    allows: (id, spiffeId) => sources.find((one) => one.id === id)?.rule.allows(pathOf(spiffeId)) ?? false,
    claims(leafDer) {
      if (sources.length === 0) return false;
      let leaf: Certificate;
      try {
        leaf = parseCertificate(leafDer);
      } catch {
        return false;
      }
      return sources.some((source) => {
        const { anchors, intermediates } = source.ca();
        return [...anchors, ...intermediates].map(parseCertificate).some((ca) => isIssuer(ca, leaf));
      });
    },
  };
}

function parsed(der: Buffer): Certificate {
  try {
    return parseCertificate(der);
  } catch (error) {
    throw authenticationFailed('bad-certificate', error instanceof SignetError ? error.message : 'it is malformed');
  }
}

function isIssuer(ca: Certificate, of: Certificate): boolean {
  return (
    ca.subject.equals(of.issuer) &&
    (of.authorityKeyId === undefined || ca.subjectKeyId === undefined || of.authorityKeyId === ca.subjectKeyId)
  );
}

function issuersOf(leaf: Certificate, intermediates: readonly Buffer[]): Buffer[] {
  const known = intermediates.map(parseCertificate);
  const above: Buffer[] = [];
  for (let at = leaf; above.length < longestChain; ) {
    const next = known.find((ca) => isIssuer(ca, at) && !above.includes(ca.der));
    if (!next) break;
    above.push(next.der);
    at = next;
  }
  return above;
}

function leadsTo(chain: readonly Buffer[], anchor: Buffer, now: number): boolean {
  try {
    verifyChain(chain, [anchor], now);
    return true;
  } catch {
    return false;
  }
}

/** RFC 5280 §4.2.1.12: one that names its purposes must name this one. A CA is nobody's client. */
function checkPurpose({ isCa, extendedKeyUsage, keyUsage }: Certificate): void {
  if (isCa) throw authenticationFailed('bad-certificate', 'it is a CA');
  if (keyUsage && !keyUsage.has('digitalSignature')) throw authenticationFailed('bad-certificate', 'its key may not sign');
  if (extendedKeyUsage && !extendedKeyUsage.includes(purposeOid.clientAuth)) {
    throw authenticationFailed('bad-certificate', 'it is not meant for TLS clients');
  }
}
