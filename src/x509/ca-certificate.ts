import { SignetError } from '../base/errors.ts';
import { completeCertificate, encodeToBeSigned, signCertificate } from './certificate-builder.ts';
import { encodeName } from './distinguished-name.ts';
import {
  authorityKeyIdExtension,
  basicConstraintsExtension,
  keyUsageExtension,
  publicKeyOctets,
  subjectAltNameExtension,
  subjectKeyId,
  subjectKeyIdExtension,
} from './extensions.ts';
import { encodeUri } from './general-names.ts';
import { type IssuingCa, issuerFacts, localSigner, neverAborted, type TbsSigner } from './issuing-ca.ts';
import type { KeyPair } from './keys.ts';
import { encodeSignatureAlgorithm } from './signature.ts';

export interface CaSubject {
  readonly commonName: string;
  readonly organization: string;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** The trust domain as a SPIFFE ID without a path, if it should be named (SPIFFE X509-SVID §4.2). */
  readonly uri?: string;
}

/** A self-signed root in DER. Each generation needs a subject of its own: path builders look issuers up by name. Throws INVALID_ARGUMENT. */
export function createRootCertificate(request: CaSubject & { readonly key: KeyPair }): Buffer {
  const signer = localSigner(request.key.privateKey);
  const { tbs, signatureAlgorithm } = rootToBeSigned(request, request.key.spki, signer.algorithm);
  return completeCertificate(tbs, signatureAlgorithm, signer.sign(tbs));
}

/** Likewise by a key that may be elsewhere. Throws INVALID_ARGUMENT, AUTHORITY_MISCONFIGURED if the signature isn't by that key, and what the signer throws. */
export async function signRootCertificate(
  request: CaSubject & { readonly spki: Buffer; readonly signer: TbsSigner },
  signal: AbortSignal,
): Promise<Buffer> {
  const { spki, signer } = request;
  const { tbs, signatureAlgorithm } = rootToBeSigned(request, spki, signer.algorithm);
  const signature = await signer.sign(tbs, signal);
  const root = completeCertificate(tbs, signatureAlgorithm, signature);
  issuerFacts({ certificate: root, signer }).prove(tbs, signature);
  return root;
}

function rootToBeSigned(request: CaSubject, spki: Buffer, algorithm: TbsSigner['algorithm']) {
  const subject = encodeName(request.organization, request.commonName);
  const signatureAlgorithm = encodeSignatureAlgorithm(algorithm);
  const tbs = encodeToBeSigned({
    signatureAlgorithm,
    issuer: subject,
    subject,
    notBefore: request.notBefore,
    notAfter: request.notAfter,
    spki,
    extensions: caExtensions(spki, request.uri, undefined, undefined),
  });
  return { tbs, signatureAlgorithm };
}

/** An intermediate in DER under `issuer`, whose path length must allow it. Throws INVALID_ARGUMENT or AUTHORITY_MISCONFIGURED. */
export async function createIntermediateCertificate(
  request: CaSubject & { readonly issuer: IssuingCa; readonly spki: Buffer; readonly pathLength: number },
  signal: AbortSignal = neverAborted,
): Promise<Buffer> {
  const issuer = issuerFacts(request.issuer);
  const { certificate } = issuer;
  if (certificate.pathLength !== undefined && certificate.pathLength <= request.pathLength) {
    throw new SignetError(
      'INVALID_ARGUMENT',
      `${certificate.subjectText} may not have a CA of path length ${String(request.pathLength)} below it`,
    );
  }
  if (request.notAfter > certificate.notAfter) throw new SignetError('INVALID_ARGUMENT', 'an intermediate may not outlive its issuer');
  const fields = {
    subject: encodeName(request.organization, request.commonName),
    notBefore: request.notBefore,
    notAfter: request.notAfter,
    spki: request.spki,
    extensions: caExtensions(request.spki, request.uri, request.pathLength, issuer.keyId),
  };
  return signCertificate(issuer, request.issuer.signer, fields, signal);
}

function caExtensions(spki: Buffer, uri: string | undefined, pathLength: number | undefined, authorityKeyId: Buffer | undefined): Buffer[] {
  const keyId = subjectKeyId(publicKeyOctets(spki, (what) => new SignetError('INVALID_ARGUMENT', `the CA's public key is ${what}`)));
  const extensions = [
    keyUsageExtension('keyCertSign', 'cRLSign'),
    basicConstraintsExtension(pathLength === undefined ? {} : { pathLength }),
    subjectKeyIdExtension(keyId),
    // RFC 5280 §4.2.1.1: a self-signed certificate may leave it out; with it, every path builder agrees on who signed.
    authorityKeyIdExtension(authorityKeyId ?? keyId),
  ];
  if (uri !== undefined) extensions.push(subjectAltNameExtension(false, [encodeUri(uri)]));
  return extensions;
}
