import { SignetError } from '../base/errors.ts';
import { DerReader, tag } from './der-reader.ts';
import { readTime } from './der-time.ts';
import { distinguishedNameText } from './distinguished-name.ts';
import { readAuthorityKeyId, readBasicConstraints, readExtendedKeyUsage, readKeyUsage } from './extensions.ts';
import { generalName, nameText, readGeneralNames } from './general-names.ts';
import { sha256Hex } from './keys.ts';
import { extensionOid, tlsFeatureOid } from './oids.ts';
import { serialText } from './serial.ts';

/** Real ones have 0.5 to 4 KB. */
const maxBytes = 32 * 1024;
const maxExtensions = 64;
const maxNames = 256;

/** The fields of an X.509 certificate (RFC 5280) that issuing, verifying and showing it need. Buffers may be views of `der`, and are never written to. */
export interface Certificate {
  readonly der: Buffer;
  /** What is signed, by which algorithm (OID in hex), and the signature. */
  readonly tbs: Buffer;
  readonly signatureAlgorithm: string;
  readonly signature: Buffer;
  /** As serialText has it. */
  readonly serial: string;
  /** DER Names. */
  readonly issuer: Buffer;
  readonly subject: Buffer;
  /** For people. */
  readonly subjectText: string;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly spki: Buffer;
  readonly spkiSha256: string;
  readonly isCa: boolean;
  readonly pathLength: number | undefined;
  /** Hex. */
  readonly subjectKeyId: string | undefined;
  readonly authorityKeyId: string | undefined;
  readonly keyUsage: ReadonlySet<string> | undefined;
  /** OIDs in hex, as oids.ts has them. */
  readonly extendedKeyUsage: readonly string[] | undefined;
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  /** SANs of other kinds, for people. */
  readonly otherNames: readonly string[];
  readonly subjectAltNameCritical: boolean;
  /** It has the TLS feature extension (RFC 7633), which wants a stapled OCSP response. */
  readonly mustStaple: boolean;
  /** The value of nameConstraints, DER. */
  readonly nameConstraints: Buffer | undefined;
  /** OIDs (hex) of critical extensions that this parser does not read: a verifier must refuse the certificate (RFC 5280 §4.2). */
  readonly unknownCritical: readonly string[];
}

/** Throws INVALID_ARGUMENT or TOO_LARGE. The signature is not verified. */
export function parseCertificate(der: Buffer): Certificate {
  if (der.length > maxBytes) throw new SignetError('TOO_LARGE', `a certificate of more than ${String(maxBytes)} bytes`);
  const outer = new DerReader(der, refuse);
  const certificate = outer.enter(tag.sequence);
  outer.finish();
  const tbs = certificate.element(tag.sequence);
  const outerAlgorithm = certificate.element(tag.sequence);
  const signature = certificate.octetsOfBits();
  certificate.finish();

  const body = new DerReader(tbs, refuse).enter(tag.sequence);
  let version = 1;
  if (body.peek() === 0xa0) {
    const explicit = body.enter(0xa0);
    version = explicit.smallInteger() + 1;
    explicit.finish();
  }
  if (version > 3) throw refuse('its version is above 3');
  const serial = serialOf(body.integer());
  // RFC 5280 §4.1.2.3: the algorithm inside what is signed must be the one outside.
  if (!body.element(tag.sequence).equals(outerAlgorithm)) throw refuse('it names two signature algorithms');
  // Not judged here: nobody relies on a root's own signature, and old roots have one with SHA-1.
  const signatureAlgorithm = new DerReader(outerAlgorithm, refuse).enter(tag.sequence).oid();
  const issuer = body.element(tag.sequence);
  const validity = body.enter(tag.sequence);
  const notBefore = readTime(validity);
  const notAfter = readTime(validity);
  validity.finish();
  const subject = body.element(tag.sequence);
  const spki = body.element(tag.sequence);
  if (body.peek() === 0x81) body.skip();
  if (body.peek() === 0x82) body.skip();
  const read = emptyExtensions();
  if (body.more()) {
    if (version !== 3) throw refuse('it has extensions but is not of version 3');
    const explicit = body.enter(0xa3);
    readExtensions(explicit.enter(tag.sequence), read);
    explicit.finish();
  }
  body.finish();
  return {
    der,
    tbs,
    signatureAlgorithm,
    signature,
    serial,
    issuer,
    subject,
    subjectText: distinguishedNameText(subject),
    notBefore,
    notAfter,
    spki,
    spkiSha256: sha256Hex(spki),
    ...read,
  };
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type Extensions = Mutable<
  Pick<
    Certificate,
    | 'isCa'
    | 'pathLength'
    | 'subjectKeyId'
    | 'authorityKeyId'
    | 'keyUsage'
    | 'extendedKeyUsage'
    | 'subjectAltNameCritical'
    | 'mustStaple'
    | 'nameConstraints'
  >
> & { uris: string[]; dnsNames: string[]; otherNames: string[]; unknownCritical: string[] };

function emptyExtensions(): Extensions {
  return {
    isCa: false,
    pathLength: undefined,
    subjectKeyId: undefined,
    authorityKeyId: undefined,
    keyUsage: undefined,
    extendedKeyUsage: undefined,
    subjectAltNameCritical: false,
    mustStaple: false,
    nameConstraints: undefined,
    uris: [],
    dnsNames: [],
    otherNames: [],
    unknownCritical: [],
  };
}

function readExtensions(extensions: DerReader, into: Extensions): void {
  const seen = new Set<string>();
  if (!extensions.more()) throw extensions.malformed('an empty list of extensions');
  while (extensions.more()) {
    const extension = extensions.enter(tag.sequence);
    const id = extension.oid();
    const critical = extension.peek() === tag.boolean && extension.boolean();
    const value = extension.enter(tag.octetString);
    extension.finish();
    // RFC 5280 §4.2: each extension at most once.
    if (seen.has(id) || seen.size === maxExtensions) throw refuse('it has an extension twice, or too many');
    seen.add(id);
    readExtension(id, critical, value, into);
  }
}

function readExtension(id: string, critical: boolean, value: DerReader, into: Extensions): void {
  switch (id) {
    case extensionOid.basicConstraints:
      ({ isCa: into.isCa, pathLength: into.pathLength } = readBasicConstraints(value));
      return;
    case extensionOid.keyUsage:
      into.keyUsage = readKeyUsage(value);
      return;
    case extensionOid.extendedKeyUsage:
      into.extendedKeyUsage = readExtendedKeyUsage(value);
      return;
    case extensionOid.subjectKeyId:
      into.subjectKeyId = value.content(tag.octetString).toString('hex');
      value.finish();
      return;
    case extensionOid.authorityKeyId:
      into.authorityKeyId = readAuthorityKeyId(value);
      return;
    case extensionOid.nameConstraints:
      into.nameConstraints = value.element(tag.sequence);
      value.finish();
      return;
    case extensionOid.subjectAltName:
      into.subjectAltNameCritical = critical;
      readGeneralNames(value.enter(tag.sequence), maxNames, (kind, content) => {
        if (kind === generalName.uri) into.uris.push(content.toString('latin1'));
        else if (kind === generalName.dns) into.dnsNames.push(content.toString('latin1'));
        else into.otherNames.push(nameText(kind, content));
      });
      value.finish();
      return;
    case tlsFeatureOid:
      into.mustStaple = true;
      return;
    default:
      if (critical) into.unknownCritical.push(id);
  }
}

function serialOf(integer: Buffer): string {
  if (integer.length > 21) throw refuse('its serial number is longer than 20 octets');
  // RFC 5280 §4.1.2.2. Shown without its sign it would be another certificate's number.
  if ((integer[0] ?? 0) >= 0x80) throw refuse('its serial number is negative');
  return serialText(integer);
}

function refuse(what: string): SignetError {
  return new SignetError('INVALID_ARGUMENT', `not an acceptable certificate: ${what}`);
}
