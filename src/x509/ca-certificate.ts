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
import { type IssuingCa, issuerFacts, localSigner } from './issuing-ca.ts';
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
  const { key } = request;
  const subject = encodeName(request.organization, request.commonName);
  const signer = localSigner(key.privateKey);
  const signatureAlgorithm = encodeSignatureAlgorithm(signer.algorithm);
  const tbs = encodeToBeSigned({
    signatureAlgorithm,
    issuer: subject,
    subject,
    notBefore: request.notBefore,
    notAfter: request.notAfter,
    spki: key.spki,
    extensions: caExtensions(key.spki, request.uri, undefined, undefined),
  });
  return completeCertificate(tbs, signatureAlgorithm, signer.sign(tbs));
}

/** An intermediate in DER under `issuer`, whose path length must allow it. Throws INVALID_ARGUMENT or AUTHORITY_MISCONFIGURED. */
export async function createIntermediateCertificate(
  request: CaSubject & { readonly issuer: IssuingCa; readonly spki: Buffer; readonly pathLength: number },
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
  return signCertificate(issuer, request.issuer.signer, {
    subject: encodeName(request.organization, request.commonName),
    notBefore: request.notBefore,
    notAfter: request.notAfter,
    spki: request.spki,
    extensions: caExtensions(request.spki, request.uri, request.pathLength, issuer.keyId),
  });
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
