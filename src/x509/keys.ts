import { createPrivateKey, createPublicKey, generateKeyPairSync, hash, type KeyObject } from 'node:crypto';
import { SignetError } from '../base/errors.ts';
import { DerReader, tag } from './der-reader.ts';
import { curveOid, keyOid, refusedKeyNames } from './oids.ts';

/** The kinds of key pair that we make ourselves. */
export type KeyAlgorithm = 'ec-p256' | 'ec-p384';

export interface KeyPair {
  readonly privateKey: KeyObject;
  /** DER SubjectPublicKeyInfo. */
  readonly spki: Buffer;
  /** Lower-case hex SHA-256 of `spki`. */
  readonly spkiSha256: string;
  readonly algorithm: KeyAlgorithm;
}

/** A public key that we would certify: strong enough, its point on its curve. */
export interface SubjectKey {
  /** DER SubjectPublicKeyInfo; a copy, so that it holds on to no larger message. */
  readonly spki: Buffer;
  readonly spkiSha256: string;
  readonly algorithm: 'ec-p256' | 'ec-p384' | 'rsa';
  /** Of the curve's field or of the modulus. */
  readonly bits: number;
  readonly publicKey: KeyObject;
}

const curveNames = { 'ec-p256': 'P-256', 'ec-p384': 'P-384' } as const;
const leastRsaBits = 2048;
/** Verifying costs grow with the square; nobody needs more. */
const mostRsaBits = 8192;

export function generateKeyPair(algorithm: KeyAlgorithm = 'ec-p256'): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: curveNames[algorithm] });
  return keyPair(privateKey, publicKey, algorithm);
}

/** PKCS#8, unencrypted: for the wire to its owner, or for a file of mode 0600. */
export function privateKeyPem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}

/** An unencrypted P-256 or P-384 private key from PEM. Throws INVALID_ARGUMENT; the message holds nothing of the input. */
export function importKeyPair(pem: string): KeyPair {
  const privateKey = importPrivateKey(pem);
  const curve = privateKey.asymmetricKeyType === 'ec' ? privateKey.asymmetricKeyDetails?.namedCurve : undefined;
  if (curve !== 'prime256v1' && curve !== 'secp384r1')
    throw new SignetError('INVALID_ARGUMENT', 'the private key is neither P-256 nor P-384');
  return keyPair(privateKey, createPublicKey(privateKey), curve === 'prime256v1' ? 'ec-p256' : 'ec-p384');
}

/** Any private key from PEM, decrypted with the passphrase if there is one. Throws INVALID_ARGUMENT. */
export function importPrivateKey(pem: string, passphrase?: string): KeyObject {
  if (pem.length > 64 * 1024) throw new SignetError('TOO_LARGE', 'a private key of more than 64 KiB');
  try {
    return createPrivateKey(passphrase === undefined ? { key: pem, format: 'pem' } : { key: pem, format: 'pem', passphrase });
  } catch (error) {
    throw new SignetError('INVALID_ARGUMENT', 'not a PEM private key, or its passphrase is missing or wrong', { cause: error });
  }
}

/** DER SubjectPublicKeyInfo of a public or private key. */
export function spkiOf(key: KeyObject): Buffer {
  return (key.type === 'private' ? createPublicKey(key) : key).export({ type: 'spki', format: 'der' });
}

export function sha256Hex(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'hex');
}

/**
 * Judges a SubjectPublicKeyInfo and imports it, once. P-256, P-384 and RSA of 2048 to 8192 bits pass; EC points must be
 * uncompressed, so that one key has one encoding and one hash. Throws INVALID_CSR naming what was refused.
 */
export function parseSubjectKey(spki: Buffer): SubjectKey {
  const reader = new DerReader(spki, refuseKey);
  const info = reader.enter(tag.sequence);
  reader.finish();
  const identifier = info.enter(tag.sequence);
  const type = identifier.oid();
  let algorithm: SubjectKey['algorithm'];
  let bits: number;
  if (type === keyOid.ec) {
    const curve = identifier.oid();
    algorithm = curve === curveOid.p256 ? 'ec-p256' : 'ec-p384';
    if (curve !== curveOid.p256 && curve !== curveOid.p384)
      throw refuseKey(`${refusedKeyNames.get(curve) ?? 'this curve'} is not accepted; use P-256 or P-384`);
    bits = algorithm === 'ec-p256' ? 256 : 384;
    const point = info.octetsOfBits();
    if (point.length !== 1 + bits / 4 || point[0] !== 0x04) throw refuseKey('the EC point is not an uncompressed point of its curve');
  } else if (type === keyOid.rsa) {
    // RFC 3279 §2.3.1: the parameters are NULL, and BoringSSL insists.
    if (identifier.content(tag.null).length !== 0) throw info.malformed('a NULL with content');
    algorithm = 'rsa';
    bits = rsaBits(info.octetsOfBits());
  } else {
    throw refuseKey(
      `${refusedKeyNames.get(type) ?? 'this kind of key'} is not accepted; use P-256, P-384 or RSA of at least ${String(leastRsaBits)} bits`,
    );
  }
  identifier.finish();
  info.finish();
  const own = Buffer.from(spki);
  return { spki: own, spkiSha256: sha256Hex(own), algorithm, bits, publicKey: importPublicKey(own, refuseKey) };
}

/**
 * OpenSSL checks here that a point lies on its curve. As a PEM string, of all things: given an object, Node 24 first asks
 * twice whether it is one of its own keys, and that costs more than the import (35 us of CPU against 80).
 */
export function importPublicKey(spki: Buffer, refuse: (what: string, cause: unknown) => SignetError): KeyObject {
  try {
    return createPublicKey(pemEncode('PUBLIC KEY', spki));
  } catch (error) {
    throw refuse('the public key is not valid', error);
  }
}
import { pemEncode } from './pem.ts';

function rsaBits(key: Buffer): number {
  const outer = new DerReader(key, refuseKey);
  const pair = outer.enter(tag.sequence);
  outer.finish();
  const modulus = pair.integer();
  const exponent = pair.integer();
  pair.finish();
  const first = modulus[0] ?? 0;
  if (first >= 0x80) throw refuseKey('the RSA modulus is negative');
  const magnitude = first === 0 ? modulus.subarray(1) : modulus;
  const bits = magnitude.length * 8 - Math.clz32(magnitude[0] ?? 0) + 24;
  if (bits < leastRsaBits) throw refuseKey(`RSA of ${String(bits)} bits is too weak; use at least ${String(leastRsaBits)}`);
  if (bits > mostRsaBits) throw refuseKey(`RSA of ${String(bits)} bits is more than the ${String(mostRsaBits)} that are accepted`);
  if (((magnitude[magnitude.length - 1] ?? 0) & 1) === 0) throw refuseKey('the RSA modulus is even');
  // BoringSSL takes public exponents of at most 33 bits; below 65537 RSA is fragile.
  const e = exponent.length <= 5 && (exponent[0] ?? 0x80) < 0x80 ? exponent.readUIntBE(0, exponent.length) : 0;
  if (e < 65537 || e % 2 === 0 || e > 2 ** 33 - 1) throw refuseKey('the RSA exponent is not an odd number from 65537 to 2^33');
  return bits;
}

function keyPair(privateKey: KeyObject, publicKey: KeyObject, algorithm: KeyAlgorithm): KeyPair {
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  return { privateKey, spki, spkiSha256: sha256Hex(spki), algorithm };
}

function refuseKey(what: string, cause?: unknown): SignetError {
  return new SignetError('INVALID_CSR', `public key: ${what}`, { cause });
}
