import { SignetError } from '../base/errors.ts';
import type { SpiffeId } from '../spiffe/id.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import { tag } from './der-reader.ts';
import { encodeTime } from './der-time.ts';
import { bitString, der, headerSize, sequence, writeHeader } from './der-writer.ts';
import {
  authorityKeyIdExtension,
  basicConstraintsExtension,
  extendedKeyUsageExtension,
  keyUsageExtension,
  publicKeyOctets,
  subjectKeyId,
  subjectKeyIdExtension,
} from './extensions.ts';
import { generalName } from './general-names.ts';
import { type IssuingCa, issuerFacts, neverAborted } from './issuing-ca.ts';
import { sha256Hex } from './keys.ts';
import { extensionOid, keyOid } from './oids.ts';
import { checkSerial, randomSerial, serialText } from './serial.ts';

export interface LeafRequest {
  /** DER of a key that parseSubjectKey took. */
  readonly spki: Buffer;
  /** SHA-256 of this `spki` in hex, by whoever has it already. Believed. */
  readonly spkiSha256?: string;
  readonly spiffeId: SpiffeId;
  /** Milliseconds since the epoch; whole seconds count. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** Positive and minimal; 128 random bits if left out. */
  readonly serial?: Buffer;
}

export interface LeafIssuer {
  /** Synchronous if the signer is; else `signal` calls it off. Throws INVALID_ARGUMENT if it would outlive the CA's certificate. */
  issue(request: LeafRequest, signal?: AbortSignal): Promise<Certificate> | Certificate;
  /** Hex of the CA's subject key identifier. */
  readonly keyId: string;
}

/** The octets of a TBSCertificate that don't change from leaf to leaf of one CA and one kind of key. */
interface Template {
  /** Extensions before the subject key identifier's 20 octets. */
  readonly extensions: Buffer;
  /** What lies between those 20 octets and the URI. */
  readonly altName: Buffer;
  /** The first that was made by it, read back: what the next ones have in common with it need not be read again. */
  first?: Certificate;
}

/** What is to be signed, and what of it differs from leaf to leaf. */
interface Draft {
  readonly tbs: Buffer;
  readonly template: Template;
  readonly serial: Buffer;
  readonly keyId: Buffer;
  readonly request: LeafRequest;
}

const version3 = Buffer.of(0xa0, 0x03, 0x02, 0x01, 0x02);
const emptyName = Buffer.of(tag.sequence, 0);
const trueOctets = Buffer.of(tag.boolean, 1, 0xff);
const altNameOid = der(tag.oid, Buffer.from(extensionOid.subjectAltName, 'hex'));
const rsaIdentifier = Buffer.from(keyOid.rsa, 'hex');

/**
 * Issues X.509-SVIDs (SPIFFE X509-SVID §4) by splicing a pre-encoded template: no ASN.1 objects are built per leaf.
 * The first signature is checked against the CA's certificate, so that a key of another CA is found before anything is
 * handed out, and the first of each template is read back; after that what is built here is right by construction.
 */
export function createLeafIssuer(ca: IssuingCa): LeafIssuer {
  const facts = issuerFacts(ca);
  const { certificate, signatureAlgorithm } = facts;
  const beforeValidity = Buffer.concat([signatureAlgorithm, certificate.subject]);
  // RFC 5480 §3: an EC key signs only; keyEncipherment is RSA's.
  const ecTemplate = template(keyUsageExtension('digitalSignature'), facts.keyId);
  const rsaTemplate = template(keyUsageExtension('digitalSignature', 'keyEncipherment'), facts.keyId);
  let proven = false;

  function draft(request: LeafRequest): Draft {
    const { spki, spiffeId } = request;
    // A leaf may be backdated past its CA's start (a path is judged at one moment, RFC 5280 §6.1), but never outlive it.
    if (!(request.notBefore <= request.notAfter && request.notAfter <= certificate.notAfter)) {
      throw new SignetError('INVALID_ARGUMENT', "a certificate ends after it begins and not after its issuer's certificate");
    }
    const serial = request.serial ? checkSerial(request.serial) : randomSerial();
    const validity = sequence(encodeTime(request.notBefore), encodeTime(request.notAfter));
    const template = isRsa(spki) ? rsaTemplate : ecTemplate;
    const { extensions, altName } = template;
    const keyId = subjectKeyId(publicKeyOctets(spki, malformed));

    const names = headerSize(spiffeId.length) + spiffeId.length;
    const namesValue = headerSize(names) + names;
    const altNameContent = altName.length + headerSize(namesValue) + namesValue;
    const list = extensions.length + keyId.length + headerSize(altNameContent) + altNameContent;
    const wrapped = headerSize(list) + list;
    const length =
      version3.length +
      2 +
      serial.length +
      beforeValidity.length +
      validity.length +
      emptyName.length +
      spki.length +
      headerSize(wrapped) +
      wrapped;

    const out = Buffer.allocUnsafe(headerSize(length) + length);
    let at = writeHeader(out, 0, tag.sequence, length);
    at = put(out, at, version3);
    at = put(out, writeHeader(out, at, tag.integer, serial.length), serial);
    at = put(out, at, beforeValidity);
    at = put(out, at, validity);
    at = put(out, at, emptyName);
    at = put(out, at, spki);
    at = writeHeader(out, at, 0xa3, wrapped);
    at = writeHeader(out, at, tag.sequence, list);
    at = put(out, at, extensions);
    at = put(out, at, keyId);
    at = writeHeader(out, at, tag.sequence, altNameContent);
    at = put(out, at, altName);
    at = writeHeader(out, at, tag.octetString, namesValue);
    at = writeHeader(out, at, tag.sequence, names);
    at = writeHeader(out, at, generalName.uri, spiffeId.length);
    // A SpiffeId is ASCII (SPIFFE-ID §2), so its length is its octets.
    out.write(spiffeId, at, 'latin1');
    return { tbs: out, template, serial, keyId, request };
  }

  function complete({ tbs, template, serial, keyId, request }: Draft, signature: Buffer): Certificate {
    if (!proven) {
      facts.prove(tbs, signature);
      proven = true;
    }
    const der = sequence(tbs, signatureAlgorithm, bitString(signature));
    if (!template.first) return (template.first = parseCertificate(der));
    const { spki, spiffeId } = request;
    return {
      ...template.first,
      der,
      tbs,
      signature,
      serial: serialText(serial),
      notBefore: wholeSeconds(request.notBefore),
      notAfter: wholeSeconds(request.notAfter),
      spki,
      spkiSha256: request.spkiSha256 ?? sha256Hex(spki),
      subjectKeyId: keyId.toString('hex'),
      uris: [spiffeId],
    };
  }

  return {
    keyId: facts.keyId.toString('hex'),
    issue(request, signal = neverAborted) {
      const drafted = draft(request);
      const signature = ca.signer.sign(drafted.tbs, signal);
      return Buffer.isBuffer(signature) ? complete(drafted, signature) : signature.then((late) => complete(drafted, late));
    },
  };
}

function template(keyUsage: Buffer, authorityKeyId: Buffer): Template {
  const before = Buffer.concat([
    keyUsage,
    extendedKeyUsageExtension('serverAuth', 'clientAuth'),
    basicConstraintsExtension(false),
    authorityKeyIdExtension(authorityKeyId),
  ]);
  // Twenty octets stand in for the identifier; they are cut off again.
  const subjectKey = subjectKeyIdExtension(Buffer.alloc(20));
  return {
    extensions: Buffer.concat([before, subjectKey.subarray(0, subjectKey.length - 20)]),
    altName: Buffer.concat([altNameOid, trueOctets]),
  };
}

/** RSA of 2048 bits and more takes two SEQUENCE headers of 4 and 2 octets and the OID's of 2; EC keys are shorter than that. */
function isRsa(spki: Buffer): boolean {
  return spki[1] === 0x82 && rsaIdentifier.compare(spki, 8, 8 + rsaIdentifier.length) === 0;
}

function put(target: Buffer, at: number, part: Buffer): number {
  target.set(part, at);
  return at + part.length;
}

const wholeSeconds = (at: number): number => Math.floor(at / 1000) * 1000;

function malformed(what: string): SignetError {
  return new SignetError('INVALID_ARGUMENT', `the public key is ${what}`);
}
