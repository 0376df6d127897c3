import { type KeyObject, sign } from 'node:crypto';
import { SignetError } from '../base/errors.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import { subjectKeyId, publicKeyOctets } from './extensions.ts';
import { importPublicKey } from './keys.ts';
import { encodeSignatureAlgorithm, signatureHolds } from './signature.ts';
import { signatureOid } from './oids.ts';

/** Signs a TBSCertificate with a CA's key, wherever that key is. */
export interface TbsSigner {
  readonly algorithm: 'ecdsa-sha256' | 'ecdsa-sha384' | 'ecdsa-sha512' | 'rsa-sha256';
  /** The signature as X.509 wants it: DER for ECDSA, PKCS#1 v1.5 for RSA. Settles soon after an abort if it isn't at once there. */
  sign(tbs: Buffer, signal: AbortSignal): Buffer | Promise<Buffer>;
}

/** For those whose key is in this process: nothing of it can be called off. */
export const neverAborted: AbortSignal = new AbortController().signal;

/** A CA certificate (DER) and whatever signs with its key. */
export interface IssuingCa {
  readonly certificate: Buffer;
  readonly signer: TbsSigner;
}

const digests = { 'ecdsa-sha256': 'sha256', 'ecdsa-sha384': 'sha384', 'ecdsa-sha512': 'sha512', 'rsa-sha256': 'sha256' } as const;
const oids = {
  'ecdsa-sha256': signatureOid.ecdsaSha256,
  'ecdsa-sha384': signatureOid.ecdsaSha384,
  'ecdsa-sha512': signatureOid.ecdsaSha512,
  'rsa-sha256': signatureOid.rsaSha256,
} as const;

export interface LocalSigner extends TbsSigner {
  sign(tbs: Buffer): Buffer;
}

/** Signs in this process. Throws INVALID_ARGUMENT for a key that is neither on a NIST curve nor RSA of at least 2048 bits. */
export function localSigner(privateKey: KeyObject): LocalSigner {
  const algorithm = algorithmFor(privateKey);
  const digest = digests[algorithm];
  return { algorithm, sign: (tbs) => sign(digest, tbs, privateKey) };
}

/** What every certificate by this CA has in common, taken from the CA's certificate once. */
export interface IssuerFacts {
  readonly certificate: Certificate;
  readonly keyId: Buffer;
  readonly signatureAlgorithm: Buffer;
  /** Throws AUTHORITY_MISCONFIGURED unless `signature` over `tbs` is by the key in the CA's certificate. */
  readonly prove: (tbs: Buffer, signature: Buffer) => void;
}

export function issuerFacts(ca: IssuingCa): IssuerFacts {
  const certificate = parseCertificate(ca.certificate);
  if (!certificate.isCa || certificate.keyUsage?.has('keyCertSign') === false) {
    throw new SignetError('INVALID_ARGUMENT', `${certificate.subjectText} is not the certificate of a CA`);
  }
  const publicKey = importPublicKey(
    certificate.spki,
    () => new SignetError('INVALID_ARGUMENT', "the CA certificate's public key is not valid"),
  );
  return {
    certificate,
    // RFC 5280 §4.2.1.1: the AKI is the issuer's own SKI, however that was made.
    keyId:
      certificate.subjectKeyId === undefined
        ? subjectKeyId(publicKeyOctets(certificate.spki, malformed))
        : Buffer.from(certificate.subjectKeyId, 'hex'),
    signatureAlgorithm: encodeSignatureAlgorithm(ca.signer.algorithm),
    prove(tbs, signature) {
      if (!signatureHolds(oids[ca.signer.algorithm], tbs, publicKey, signature)) {
        throw new SignetError('AUTHORITY_MISCONFIGURED', `the signing key is not the one in the CA certificate ${certificate.subjectText}`);
      }
    },
  };
}

function algorithmFor(key: KeyObject): TbsSigner['algorithm'] {
  const details = key.asymmetricKeyDetails;
  if (key.type === 'private' && key.asymmetricKeyType === 'ec') {
    if (details?.namedCurve === 'prime256v1') return 'ecdsa-sha256';
    if (details?.namedCurve === 'secp384r1') return 'ecdsa-sha384';
    if (details?.namedCurve === 'secp521r1') return 'ecdsa-sha512';
  }
  if (key.type === 'private' && key.asymmetricKeyType === 'rsa' && (details?.modulusLength ?? 0) >= 2048) return 'rsa-sha256';
  throw new SignetError('INVALID_ARGUMENT', 'a CA signs with a private key on P-256, P-384 or P-521, or with RSA of at least 2048 bits');
}

function malformed(what: string): SignetError {
  return new SignetError('INVALID_ARGUMENT', what);
}
