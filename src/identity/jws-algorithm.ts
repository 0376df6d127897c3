import { constants } from 'node:crypto';
import type { KeyObject, VerifyKeyObjectInput } from 'node:crypto';

/** The signatures of RFC 7518 §3.1 that we take: asymmetric ones alone, so that no public key can serve as an HMAC secret. */
export const jwsAlgorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512'] as const;

export type JwsAlgorithm = (typeof jwsAlgorithms)[number];

export function isJwsAlgorithm(text: unknown): text is JwsAlgorithm {
  return (jwsAlgorithms as readonly unknown[]).includes(text);
}

export interface SignatureScheme {
  readonly digest: 'sha256' | 'sha384' | 'sha512';
  /**
   * The bare KeyObject wherever its defaults are right: node:crypto (24) spends 35 to 65 us on taking an options object
   * with a key in it apart, as much as on the RSA signature itself.
   */
  readonly key: KeyObject | VerifyKeyObjectInput;
  /** The one length, in bytes, that a signature of this key has. */
  readonly signatureLength: number;
  /** r and s side by side (RFC 7518 §3.4), where node:crypto's default is their DER. */
  readonly rawEcdsa: boolean;
}

const digests = { '256': 'sha256', '384': 'sha384', '512': 'sha512' } as const;

/** RFC 7518 §3.4: the curve is fixed by the algorithm, and the signature is r and s at the curve's length. */
const curves: Readonly<Record<string, { readonly algorithm: JwsAlgorithm; readonly signatureLength: number }>> = {
  prime256v1: { algorithm: 'ES256', signatureLength: 64 },
  secp384r1: { algorithm: 'ES384', signatureLength: 96 },
  secp521r1: { algorithm: 'ES512', signatureLength: 132 },
};

const smallestRsaBits = 2048;
/** Verification time grows with the square of the modulus: a key set must not be able to make it minutes. */
const largestRsaBits = 8192;
const largestRsaExponent = 0xffff_ffffn;

/** Which of our algorithms a public key can verify, each with all that node:crypto needs; empty for a key that we don't take. */
export function schemesFor(key: KeyObject): ReadonlyMap<JwsAlgorithm, SignatureScheme> {
  const schemes = new Map<JwsAlgorithm, SignatureScheme>();
  const details = key.asymmetricKeyDetails;
  if (key.asymmetricKeyType === 'ec') {
    const curve = curves[details?.namedCurve ?? ''];
    if (curve)
      schemes.set(curve.algorithm, {
        digest: digestOf(curve.algorithm),
        key,
        signatureLength: curve.signatureLength,
        rawEcdsa: true,
      });
  }
  const bits = details?.modulusLength ?? 0;
  const exponent = details?.publicExponent ?? 0n;
  if (
    key.asymmetricKeyType === 'rsa' &&
    bits >= smallestRsaBits &&
    bits <= largestRsaBits &&
    exponent >= 3n &&
    exponent <= largestRsaExponent
  ) {
    const signatureLength = Math.ceil(bits / 8);
    for (const algorithm of jwsAlgorithms) {
      const digest = digestOf(algorithm);
      // PKCS #1 v1.5 is the default padding of a key of this type.
      if (algorithm.startsWith('RS')) schemes.set(algorithm, { digest, key, signatureLength, rawEcdsa: false });
      if (algorithm.startsWith('PS')) {
        // RFC 7518 §3.5: the salt is as long as the digest.
        const saltLength = constants.RSA_PSS_SALTLEN_DIGEST;
        const padding = constants.RSA_PKCS1_PSS_PADDING;
        schemes.set(algorithm, { digest, key: { key, padding, saltLength }, signatureLength, rawEcdsa: false });
      }
    }
  }
  return schemes;
}

function digestOf(algorithm: JwsAlgorithm): SignatureScheme['digest'] {
  return digests[algorithm.slice(2) as keyof typeof digests];
}
