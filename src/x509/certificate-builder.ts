import { tag } from './der-reader.ts';
import { encodeTime } from './der-time.ts';
import { bitString, der, sequence, unsignedInteger } from './der-writer.ts';
import { type IssuerFacts, neverAborted, type TbsSigner } from './issuing-ca.ts';
import { randomSerial } from './serial.ts';

export interface CertificateFields {
  /** DER AlgorithmIdentifier of the signature to come. */
  readonly signatureAlgorithm: Buffer;
  /** DER Names. */
  readonly issuer: Buffer;
  readonly subject: Buffer;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly spki: Buffer;
  readonly extensions: readonly Buffer[];
}

/** A TBSCertificate of version 3 with a random serial: for the few certificates that aren't worth a template. */
export function encodeToBeSigned(fields: CertificateFields): Buffer {
  return sequence(
    der(0xa0, der(tag.integer, Buffer.of(2))),
    unsignedInteger(randomSerial()),
    fields.signatureAlgorithm,
    fields.issuer,
    sequence(encodeTime(fields.notBefore), encodeTime(fields.notAfter)),
    fields.subject,
    fields.spki,
    der(0xa3, sequence(...fields.extensions)),
  );
}

export function completeCertificate(tbs: Buffer, signatureAlgorithm: Buffer, signature: Buffer): Buffer {
  return sequence(tbs, signatureAlgorithm, bitString(signature));
}

/** A certificate by an issuing CA, its signature proven against the CA's certificate. Throws AUTHORITY_MISCONFIGURED. */
export async function signCertificate(
  issuer: IssuerFacts,
  signer: TbsSigner,
  fields: Omit<CertificateFields, 'signatureAlgorithm' | 'issuer'>,
  signal: AbortSignal = neverAborted,
): Promise<Buffer> {
  const { signatureAlgorithm, certificate } = issuer;
  const tbs = encodeToBeSigned({ ...fields, signatureAlgorithm, issuer: certificate.subject });
  const signature = await signer.sign(tbs, signal);
  issuer.prove(tbs, signature);
  return completeCertificate(tbs, signatureAlgorithm, signature);
}
