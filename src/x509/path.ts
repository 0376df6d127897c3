import type { KeyObject } from 'node:crypto';
import { SignetError } from '../base/errors.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import { importPublicKey } from './keys.ts';
import { nameConstraintFault } from './name-constraints.ts';
import { purposeOid } from './oids.ts';
import { isAcceptedSignature, signatureHolds, signatureName } from './signature.ts';

/** A CA certificate, parsed once, its key imported once and judged. */
export interface CaCertificate {
  readonly certificate: Certificate;
  readonly publicKey: KeyObject;
}

/** CA certificates from the issuer of a leaf up to its anchor, each verified to have signed the one before. */
export interface IssuerPath {
  readonly issuers: readonly [CaCertificate, ...CaCertificate[]];
  /** When all of them are valid. */
  readonly notBefore: number;
  readonly notAfter: number;
}

const longestPath = 8;

/** By identity of the Buffer: CA certificates live long and are never written to. */
const known = new WeakMap<Buffer, CaCertificate>();

/** Parses and judges a certificate as a CA that Envoy (BoringSSL) would build a TLS path through. Throws INVALID_ARGUMENT. */
export function caCertificate(der: Buffer): CaCertificate {
  const before = known.get(der);
  if (before) return before;
  const certificate = parseCertificate(der);
  const fault = caFault(certificate);
  if (fault !== undefined) throw pathError(certificate, fault);
  const publicKey = importPublicKey(certificate.spki, () => pathError(certificate, 'its public key is not valid'));
  if (!isStrong(publicKey)) throw pathError(certificate, 'its key is weak or of a kind that is not accepted');
  const ca = { certificate, publicKey };
  known.set(der, ca);
  return ca;
}

/**
 * The path from `certificate` through `intermediates`, in their order, to one of the anchors. Checks everything of RFC 5280
 * §6.1 that concerns the CAs, and that the first of them issued `certificate`. Throws INVALID_ARGUMENT.
 */
export function buildPath(
  certificate: Certificate,
  intermediates: readonly Buffer[],
  anchors: readonly Buffer[],
  at: number,
  signatures: 'verify' | 'trust',
): IssuerPath {
  if (intermediates.length >= longestPath)
    throw new SignetError('INVALID_ARGUMENT', `a chain of more than ${String(longestPath)} certificates`);
  const issuers: CaCertificate[] = [];
  let child = certificate;
  for (const der of intermediates) {
    const issuer = caCertificate(der);
    const fault = issuedFault(child, issuer, signatures === 'trust' && issuers.length === 0);
    if (fault !== undefined) throw pathError(child, fault);
    issuers.push(issuer);
    child = issuer.certificate;
  }
  issuers.push(findAnchor(child, anchors, signatures === 'trust' && issuers.length === 0));
  const [first, ...rest] = issuers;
  if (!first) throw new SignetError('INTERNAL', 'a path without an issuer');

  let notBefore = -Infinity;
  let notAfter = Infinity;
  let below = 0;
  for (const { certificate: ca } of issuers) {
    if (at < ca.notBefore || at > ca.notAfter) throw pathError(ca, at > ca.notAfter ? 'it has expired' : 'it is not valid yet');
    notBefore = Math.max(notBefore, ca.notBefore);
    notAfter = Math.min(notAfter, ca.notAfter);
    if (ca.pathLength !== undefined && below > ca.pathLength) throw pathError(ca, 'its path length allows no such CA below it');
    // RFC 5280 §6.1.4 (l): self-issued certificates don't count.
    if (!ca.subject.equals(ca.issuer)) below++;
  }
  const path: IssuerPath = { issuers: [first, ...rest], notBefore, notAfter };
  checkNames(certificate, path);
  let lower = first.certificate;
  for (const upper of rest) {
    const constraints = upper.certificate.nameConstraints;
    const fault = constraints && nameConstraintFault(constraints, lower);
    if (fault !== undefined) throw pathError(lower, fault);
    lower = upper.certificate;
  }
  return path;
}

/** Checks the certificate under the CAs of a path against their name constraints. Throws INVALID_ARGUMENT. */
export function checkNames(certificate: Certificate, path: IssuerPath): void {
  for (const { certificate: ca } of path.issuers) {
    const fault = ca.nameConstraints && nameConstraintFault(ca.nameConstraints, certificate);
    if (fault !== undefined) throw pathError(certificate, fault);
  }
}

/** Why `issuer` did not issue `child`, or undefined. */
export function issuedFault(child: Certificate, issuer: CaCertificate, signatureTrusted: boolean): string | undefined {
  const ca = issuer.certificate;
  if (!child.issuer.equals(ca.subject)) return `its issuer is not ${ca.subjectText}, the next certificate`;
  // BoringSSL won't take an issuer whose key identifier differs, whatever the signature says.
  if (child.authorityKeyId !== undefined && ca.subjectKeyId !== undefined && child.authorityKeyId !== ca.subjectKeyId) {
    return `its authority key identifier is not that of ${ca.subjectText}`;
  }
  if (!isAcceptedSignature(child.signatureAlgorithm)) return `signatures by ${signatureName(child.signatureAlgorithm)} are not accepted`;
  if (!signatureTrusted && !signatureHolds(child.signatureAlgorithm, child.tbs, issuer.publicKey, child.signature)) {
    return `its signature is not by ${ca.subjectText}`;
  }
  return undefined;
}

function findAnchor(child: Certificate, anchors: readonly Buffer[], signatureTrusted: boolean): CaCertificate {
  let fault = 'it does not chain to a trusted root';
  for (const der of anchors) {
    const anchor = caCertificate(der);
    if (!anchor.certificate.subject.equals(child.issuer)) continue;
    const why = issuedFault(child, anchor, signatureTrusted);
    if (why === undefined) return anchor;
    fault = why;
  }
  throw pathError(child, fault);
}

function caFault(certificate: Certificate): string | undefined {
  if (!certificate.isCa) return 'it is not a CA certificate';
  if (certificate.keyUsage?.has('keyCertSign') === false) return 'its key usage does not allow signing certificates';
  if (certificate.unknownCritical.length > 0) return 'it has a critical extension that is not understood';
  const purposes = certificate.extendedKeyUsage;
  // BoringSSL checks the purpose all the way up, and does not read anyExtendedKeyUsage as either.
  if (purposes && !(purposes.includes(purposeOid.serverAuth) && purposes.includes(purposeOid.clientAuth))) {
    return 'its extended key usage does not allow TLS servers and clients';
  }
  return undefined;
}

function isStrong({ asymmetricKeyType: type, asymmetricKeyDetails: details }: KeyObject): boolean {
  if (type === 'ec') return ['prime256v1', 'secp384r1', 'secp521r1'].includes(details?.namedCurve ?? '');
  if (type === 'rsa') return (details?.modulusLength ?? 0) >= 2048;
  return type === 'ed25519';
}

export function pathError(certificate: Certificate, fault: string): SignetError {
  return new SignetError('INVALID_ARGUMENT', `certificate ${certificate.subjectText || certificate.serial}: ${fault}`);
}
