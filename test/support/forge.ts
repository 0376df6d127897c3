import { createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { createIntermediateCertificate, createRootCertificate } from '../../src/x509/ca-certificate.ts';
import { encodeToBeSigned, completeCertificate } from '../../src/x509/certificate-builder.ts';
import { encodeName } from '../../src/x509/distinguished-name.ts';
import { tag } from '../../src/x509/der-reader.ts';
import { bitString, der, octetString, oid, sequence } from '../../src/x509/der-writer.ts';
import { encodeExtension } from '../../src/x509/extensions.ts';
import { type IssuingCa, localSigner } from '../../src/x509/issuing-ca.ts';
import { generateKeyPair, type KeyPair, spkiOf } from '../../src/x509/keys.ts';
import { extensionOid, extensionRequestOid, signatureOid } from '../../src/x509/oids.ts';
import { encodeSignatureAlgorithm } from '../../src/x509/signature.ts';

/** Certificates and requests that nobody should make, for tests. */
export const hour = 3_600_000;
export const day = 24 * hour;
/** A fixed moment: 2026-11-23T12:00:00Z. */
export const noon = Date.UTC(2026, 10, 23, 12);

/** A root and an intermediate with their keys, as a CA of ours has them. */
export interface TestCa {
  readonly rootKey: KeyPair;
  readonly root: Buffer;
  readonly rootCa: IssuingCa;
  readonly key: KeyPair;
  readonly intermediate: Buffer;
  readonly ca: IssuingCa;
}

export async function testCa(name = 'Test', at = noon): Promise<TestCa> {
  const rootKey = generateKeyPair();
  const key = generateKeyPair();
  const subject = { organization: 'example.org', notBefore: at - hour, uri: 'spiffe://example.org' };
  const root = createRootCertificate({ ...subject, key: rootKey, commonName: `${name} Root`, notAfter: at + 3650 * day });
  const rootCa = { certificate: root, signer: localSigner(rootKey.privateKey) };
  const intermediate = await createIntermediateCertificate({
    ...subject,
    issuer: rootCa,
    spki: key.spki,
    commonName: `${name} Intermediate`,
    notAfter: at + 365 * day,
    pathLength: 0,
  });
  return { rootKey, root, rootCa, key, intermediate, ca: { certificate: intermediate, signer: localSigner(key.privateKey) } };
}

export interface ForgedCertificate {
  readonly issuerKey: KeyObject;
  readonly issuerName?: string;
  readonly subjectName?: string;
  /** Takes precedence over subjectName. */
  readonly subject?: Buffer;
  readonly spki: Buffer;
  readonly notBefore?: number;
  readonly notAfter?: number;
  readonly extensions: readonly Buffer[];
  /** Signed by ECDSA with SHA-1, as it once was usual. */
  readonly sha1?: boolean;
}

/** A certificate with exactly these fields, signed by a key that need not be anybody's. */
export function forgeCertificate(forged: ForgedCertificate): Buffer {
  const signer = localSigner(forged.issuerKey);
  const signatureAlgorithm = forged.sha1 ? sequence(oid('2a8648ce3d0401')) : encodeSignatureAlgorithm(signer.algorithm);
  const tbs = encodeToBeSigned({
    signatureAlgorithm,
    issuer: encodeName('forged', forged.issuerName ?? 'issuer'),
    subject: forged.subject ?? encodeName('forged', forged.subjectName ?? 'subject'),
    notBefore: forged.notBefore ?? noon - hour,
    notAfter: forged.notAfter ?? noon + day,
    spki: forged.spki,
    extensions: forged.extensions,
  });
  return completeCertificate(tbs, signatureAlgorithm, forged.sha1 ? sign('sha1', tbs, forged.issuerKey) : signer.sign(tbs));
}

export type ForeignKey = 'P-224' | 'P-521' | 'secp256k1' | 'rsa-1024' | 'rsa-2048' | 'rsa-pss' | 'ed25519' | 'ed448' | 'x25519' | 'dsa';

const made = new Map<ForeignKey, KeyObject>();

/** A private key of a kind that we don't make ourselves; made once per process. */
export function foreignKey(kind: ForeignKey): KeyObject {
  const before = made.get(kind);
  if (before) return before;
  const key = generateForeignKey(kind);
  made.set(kind, key);
  return key;
}

function generateForeignKey(kind: ForeignKey): KeyObject {
  switch (kind) {
    case 'P-224':
      return generateKeyPairSync('ec', { namedCurve: 'secp224r1' }).privateKey;
    case 'P-521':
    case 'secp256k1':
      return generateKeyPairSync('ec', { namedCurve: kind }).privateKey;
    case 'rsa-1024':
      return generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey;
    case 'rsa-2048':
      return generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    case 'rsa-pss':
      return generateKeyPairSync('rsa-pss', { modulusLength: 2048 }).privateKey;
    case 'ed25519':
      return generateKeyPairSync('ed25519').privateKey;
    case 'ed448':
      return generateKeyPairSync('ed448').privateKey;
    case 'x25519':
      return generateKeyPairSync('x25519').privateKey;
    case 'dsa':
      return generateKeyPairSync('dsa', { modulusLength: 2048, divisorLength: 256 }).privateKey;
  }
}

export interface ForgedRequest {
  readonly key: KeyObject;
  /** The public key in the request, if not the signer's. */
  readonly spki?: Buffer;
  readonly subject?: Buffer;
  /** DER of the SET of attributes' elements. */
  readonly attributes?: readonly Buffer[];
  readonly version?: number;
  /** Hex OID of the signature algorithm that the request claims. */
  readonly algorithm?: string;
}

/** A PKCS#10 request with exactly these fields. */
export function forgeCsr(forged: ForgedRequest): Buffer {
  const info = sequence(
    der(tag.integer, Buffer.of(forged.version ?? 0)),
    forged.subject ?? sequence(),
    forged.spki ?? spkiOf(forged.key),
    der(0xa0, ...(forged.attributes ?? [])),
  );
  const type = forged.key.asymmetricKeyType;
  const signs = type !== 'x25519';
  const digest = type === 'ed25519' || type === 'ed448' ? null : 'sha256';
  const signature = signs ? sign(digest, info, forged.key) : Buffer.alloc(64);
  const algorithm =
    forged.algorithm ?? (type === 'rsa' ? signatureOid.rsaSha256 : type === 'ed25519' ? signatureOid.ed25519 : signatureOid.ecdsaSha256);
  return sequence(info, sequence(oid(algorithm), ...(type === 'rsa' ? [der(tag.null)] : [])), bitString(signature));
}

export function extensionRequest(...extensions: readonly Buffer[]): Buffer {
  return sequence(oid(extensionRequestOid), der(tag.set, sequence(...extensions)));
}

/** A SAN extension with these GeneralNames: [context tag octet, text]. */
export function altNames(names: readonly (readonly [number, string])[], critical = true): Buffer {
  return encodeExtension(
    extensionOid.subjectAltName,
    critical,
    sequence(...names.map(([kind, text]) => der(kind, Buffer.from(text, 'latin1')))),
  );
}

/** An extension of an OID (hex) that no parser knows. */
export function unknownExtension(critical: boolean): Buffer {
  return encodeExtension('2b0601040182371502', critical, octetString(Buffer.from('?')));
}

export function publicSpki(key: KeyObject): Buffer {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}
