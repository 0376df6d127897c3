import { SignetError } from '../base/errors.ts';
import { isSpiffeId, type SpiffeId } from '../spiffe/id.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import { parseSubjectKey } from './keys.ts';
import type { CheckedChain } from './material.ts';
import { purposeOid } from './oids.ts';
import { buildPath, checkNames, issuedFault, type IssuerPath, pathError } from './path.ts';
import { pemEncode } from './pem.ts';

/** Verifies a chain (DER, leaf or CA first, each signed by the next) up to one of the anchors at a time in ms. Throws INVALID_ARGUMENT saying what fails. */
export function verifyChain(chain: readonly Buffer[], anchors: readonly Buffer[], at: number): void {
  verifiedLeaf(chain, anchors, at);
}

/** Verifies somebody's X.509-SVID chain and its profile (SPIFFE X509-SVID §5) and returns whose it is. Throws INVALID_ARGUMENT. */
export function verifySvid(
  chain: readonly Buffer[],
  anchors: readonly Buffer[],
  at: number,
): { readonly certificate: Certificate; readonly spiffeId: SpiffeId } {
  const certificate = verifiedLeaf(chain, anchors, at);
  return { certificate, spiffeId: nameOf(certificate) };
}

/**
 * The profile and dates of an X.509-SVID's leaf alone, at a time in ms: for a leaf whose path TLS has just verified. Returns
 * whose it is. Throws INVALID_ARGUMENT.
 */
export function checkSvid(leaf: Buffer, at: number): SpiffeId {
  const certificate = parseCertificate(leaf);
  checkDates(certificate, at);
  return nameOf(certificate);
}

function nameOf(certificate: Certificate): SpiffeId {
  const fault = leafFault(certificate);
  if (fault !== undefined) throw pathError(certificate, fault);
  const [uri] = certificate.uris;
  if (uri === undefined || !isSpiffeId(uri)) throw pathError(certificate, 'its name is not a SPIFFE ID');
  return uri;
}

function checkDates(certificate: Certificate, at: number): void {
  if (at < certificate.notBefore || at > certificate.notAfter)
    throw pathError(certificate, at > certificate.notAfter ? 'it has expired' : 'it is not valid yet');
}

export interface IssuedCheck {
  /** DER, leaf first; an anchor at the end is dropped. */
  readonly chain: readonly Buffer[];
  readonly anchors: readonly Buffer[];
  /** Now, in ms. */
  readonly at: number;
  readonly expected: {
    readonly spkiSha256: string;
    readonly spiffeId: SpiffeId;
    /** The latest end that is acceptable, in ms. */
    readonly notAfter: number;
  };
  /**
   * The leaf as it was built in this process from our own template: it is not read again, nor its signature verified, so
   * that its key and name are those that were asked for by construction. Its dates, its issuer and the names that its CAs
   * allow are judged. The CAs above are verified in full either way, once for each set of them.
   */
  readonly builtHere?: Certificate | undefined;
}

/** What an authority returned, if it is what was asked for and what Envoy will take. Throws AUTHORITY_MISBEHAVED naming the fault. */
export function checkIssued(check: IssuedCheck): CheckedChain {
  try {
    return checkedChain(check);
  } catch (error) {
    if (error instanceof SignetError && error.code !== 'INTERNAL') {
      throw new SignetError('AUTHORITY_MISBEHAVED', `the CA returned something else than was asked for: ${error.message}`, {
        cause: error,
      });
    }
    throw error;
  }
}

function checkedChain({ chain, anchors, at, expected, builtHere }: IssuedCheck): CheckedChain {
  const [leafDer, ...rest] = chain;
  if (!leafDer) throw new SignetError('INVALID_ARGUMENT', 'an empty chain');
  const trusted = builtHere?.der === leafDer;
  const leaf = trusted ? builtHere : parseCertificate(leafDer);
  const fault = leafFault(leaf) ?? expectationFault(leaf, at, expected);
  if (fault !== undefined) throw pathError(leaf, fault);
  // What we signed here had its key checked as a request; Envoy NACKs or refuses a weak or odd one.
  if (!trusted) parseSubjectKey(leaf.spki);
  const above = issuersAbove(leaf, rest, anchors, at, trusted);
  // Never past any issuer's end: peers would refuse the chain while the leaf still looks good.
  if (leaf.notAfter > above.path.notAfter) throw pathError(leaf, 'it outlives one of its issuers');
  const checked = {
    certificates: [leafDer, ...above.intermediates] as const,
    pems: [pemEncode('CERTIFICATE', leafDer), ...above.pems] as const,
    serial: leaf.serial,
    notBefore: leaf.notBefore,
    notAfter: leaf.notAfter,
    spkiSha256: leaf.spkiSha256,
  };
  return checked as unknown as CheckedChain;
}

/** The CAs above the leaves of one authority: verified once, then known by the identity of the Buffers. */
interface IssuersAbove {
  readonly given: readonly Buffer[];
  readonly anchors: readonly Buffer[];
  readonly path: IssuerPath;
  readonly intermediates: readonly Buffer[];
  readonly pems: readonly string[];
}

const knownByFirst = new WeakMap<Buffer, IssuersAbove>();
const knownByAnchors = new WeakMap<readonly Buffer[], IssuersAbove>();

function issuersAbove(
  leaf: Certificate,
  given: readonly Buffer[],
  anchors: readonly Buffer[],
  at: number,
  signatureTrusted: boolean,
): IssuersAbove {
  const [first] = given;
  const before = first ? knownByFirst.get(first) : knownByAnchors.get(anchors);
  if (before && isSame(before, given, anchors) && at >= before.path.notBefore && at <= before.path.notAfter) {
    const fault = issuedFault(leaf, before.path.issuers[0], signatureTrusted);
    if (fault === undefined) {
      checkNames(leaf, before.path);
      return before;
    }
  }
  const intermediates = given.filter((der) => !anchors.some((anchor) => anchor.equals(der)));
  const path = buildPath(leaf, intermediates, anchors, at, signatureTrusted ? 'trust' : 'verify');
  const above: IssuersAbove = {
    given,
    anchors,
    path,
    intermediates,
    pems: intermediates.map((der) => pemEncode('CERTIFICATE', der)),
  };
  if (first) knownByFirst.set(first, above);
  else knownByAnchors.set(anchors, above);
  return above;
}

function isSame(above: IssuersAbove, given: readonly Buffer[], anchors: readonly Buffer[]): boolean {
  return above.anchors === anchors && above.given.length === given.length && above.given.every((der, i) => der === given[i]);
}

function verifiedLeaf(chain: readonly Buffer[], anchors: readonly Buffer[], at: number): Certificate {
  const [first, ...rest] = chain;
  if (!first) throw new SignetError('INVALID_ARGUMENT', 'an empty chain');
  const certificate = parseCertificate(first);
  if (certificate.unknownCritical.length > 0) throw pathError(certificate, 'it has a critical extension that is not understood');
  checkDates(certificate, at);
  buildPath(certificate, rest, anchors, at, 'verify');
  return certificate;
}

/** What SPIFFE (X509-SVID §4) and RFC 5280 ask of a leaf, and Envoy of one that it serves. */
function leafFault(leaf: Certificate): string | undefined {
  if (leaf.isCa) return 'it is a CA certificate';
  if (leaf.unknownCritical.length > 0) return 'it has a critical extension that is not understood';
  if (leaf.keyUsage?.has('digitalSignature') !== true) return 'its key usage is not digitalSignature';
  if (leaf.keyUsage.has('keyCertSign') || leaf.keyUsage.has('cRLSign')) return 'its key usage is that of a CA';
  const purposes = leaf.extendedKeyUsage;
  if (purposes && !(purposes.includes(purposeOid.serverAuth) && purposes.includes(purposeOid.clientAuth))) {
    return 'its extended key usage does not allow TLS servers and clients';
  }
  if (leaf.uris.length !== 1) return 'it does not have exactly one URI name';
  if (leaf.subject.length === 2 && !leaf.subjectAltNameCritical) return 'its subject is empty but its names are not critical';
  // Envoy NACKs a leaf that wants a stapled OCSP response and has none.
  if (leaf.mustStaple) return 'it wants a stapled OCSP response';
  return undefined;
}

function expectationFault(leaf: Certificate, at: number, expected: IssuedCheck['expected']): string | undefined {
  if (leaf.spkiSha256 !== expected.spkiSha256) return 'it is for another key';
  if (leaf.uris[0] !== expected.spiffeId) return 'it is for another name';
  if (leaf.dnsNames.length > 0 || leaf.otherNames.length > 0) return 'it has more names than were asked for';
  if (leaf.notAfter > expected.notAfter) return 'it lives longer than was asked for';
  if (at > leaf.notAfter) return 'it has expired';
  if (at < leaf.notBefore) return 'it is not valid yet';
  return undefined;
}
