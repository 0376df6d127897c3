import { type KeyObject, verify } from 'node:crypto';
import type { DerReader } from './der-reader.ts';
import { tag, type Refuse } from './der-reader.ts';
import { der, octetString, oid, sequence, unsignedInteger } from './der-writer.ts';
import { digestOid, refusedSignatureNames, signatureOid } from './oids.ts';

interface Scheme {
  readonly keyType: 'ec' | 'rsa' | 'ed25519';
  readonly digest: 'sha256' | 'sha384' | 'sha512' | null;
}

const schemes: ReadonlyMap<string, Scheme> = new Map<string, Scheme>([
  [signatureOid.ecdsaSha256, { keyType: 'ec', digest: 'sha256' }],
  [signatureOid.ecdsaSha384, { keyType: 'ec', digest: 'sha384' }],
  [signatureOid.ecdsaSha512, { keyType: 'ec', digest: 'sha512' }],
  [signatureOid.rsaSha256, { keyType: 'rsa', digest: 'sha256' }],
  [signatureOid.rsaSha384, { keyType: 'rsa', digest: 'sha384' }],
  [signatureOid.rsaSha512, { keyType: 'rsa', digest: 'sha512' }],
  [signatureOid.ed25519, { keyType: 'ed25519', digest: null }],
]);

/** Reads an AlgorithmIdentifier of a signature and returns its OID. One without a scheme of ours is refused by name. */
export function readSignatureAlgorithm(reader: DerReader, refuse: Refuse): string {
  const identifier = reader.enter(tag.sequence);
  const algorithm = identifier.oid();
  const scheme = schemes.get(algorithm);
  if (!scheme) throw refuse(`signatures by ${signatureName(algorithm)} are not accepted`);
  // RFC 4055 §5: NULL with RSA, though readers take its absence; RFC 5758 §3.2 and RFC 8410 §3: absent otherwise.
  if (scheme.keyType === 'rsa' && identifier.more() && identifier.content(tag.null).length !== 0)
    throw identifier.malformed('a NULL with content');
  identifier.finish();
  return algorithm;
}

/** Whether this is a signature algorithm (OID in hex) that we verify at all. */
export function isAcceptedSignature(algorithm: string): boolean {
  return schemes.has(algorithm);
}

/** For messages. */
export function signatureName(algorithm: string): string {
  return refusedSignatureNames.get(algorithm) ?? 'this algorithm';
}

/** Whether `signature` over `data` is by `key`, with an algorithm that fits the key's type. Never throws. */
export function signatureHolds(algorithm: string, data: Uint8Array, key: KeyObject, signature: Uint8Array): boolean {
  const scheme = schemes.get(algorithm);
  if (!scheme || key.asymmetricKeyType !== scheme.keyType) return false;
  try {
    return verify(scheme.digest, data, key, signature);
  } catch {
    return false;
  }
}

/** The AlgorithmIdentifier that goes into what we sign. */
export function encodeSignatureAlgorithm(algorithm: 'ecdsa-sha256' | 'ecdsa-sha384' | 'ecdsa-sha512' | 'rsa-sha256'): Buffer {
  switch (algorithm) {
    case 'ecdsa-sha256':
      return sequence(oid(signatureOid.ecdsaSha256));
    case 'ecdsa-sha384':
      return sequence(oid(signatureOid.ecdsaSha384));
    case 'ecdsa-sha512':
      return sequence(oid(signatureOid.ecdsaSha512));
    case 'rsa-sha256':
      return sequence(oid(signatureOid.rsaSha256), der(tag.null));
  }
}

/** An ECDSA signature as X.509 wants it (RFC 3279 §2.2.3) from r and s side by side, as tokens and JOSE have it. */
export function ecdsaFromRaw(raw: Uint8Array): Buffer {
  const half = raw.length / 2;
  return sequence(unsignedInteger(raw.subarray(0, half)), unsignedInteger(raw.subarray(half)));
}

/** What PKCS#1 v1.5 pads and raises to a power (RFC 8017 §9.2), for keepers of keys that hash nothing themselves. */
export function digestInfo(sha256: Uint8Array): Buffer {
  return sequence(sequence(oid(digestOid.sha256), der(tag.null)), octetString(sha256));
}
