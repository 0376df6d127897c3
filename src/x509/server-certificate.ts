import { SignetError } from '../base/errors.ts';
import { signCertificate } from './certificate-builder.ts';
import { sequence } from './der-writer.ts';
import {
  authorityKeyIdExtension,
  basicConstraintsExtension,
  extendedKeyUsageExtension,
  keyUsageExtension,
  publicKeyOctets,
  subjectAltNameExtension,
  subjectKeyId,
  subjectKeyIdExtension,
} from './extensions.ts';
import { encodeDns, encodeIp, encodeUri } from './general-names.ts';
import { type IssuingCa, issuerFacts } from './issuing-ca.ts';
import { parseSubjectKey } from './keys.ts';

export interface ServerCertificateRequest {
  readonly ca: IssuingCa;
  readonly spki: Buffer;
  readonly dnsNames: readonly string[];
  /** Textual, IPv4 or IPv6. */
  readonly ipAddresses: readonly string[];
  readonly uris: readonly string[];
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
}

/** The control plane's own serving certificate, in DER. Throws INVALID_ARGUMENT or AUTHORITY_MISCONFIGURED. */
export async function createServerCertificate(request: ServerCertificateRequest): Promise<Buffer> {
  const names = [...request.dnsNames.map(encodeDns), ...request.ipAddresses.map(encodeIp), ...request.uris.map(encodeUri)];
  if (names.length === 0) throw new SignetError('INVALID_ARGUMENT', 'a server certificate without a name');
  const issuer = issuerFacts(request.ca);
  if (request.notAfter > issuer.certificate.notAfter) throw new SignetError('INVALID_ARGUMENT', 'a certificate may not outlive its issuer');
  const key = parseSubjectKey(request.spki);
  const keyId = subjectKeyId(publicKeyOctets(key.spki, (what) => new SignetError('INVALID_ARGUMENT', what)));
  return signCertificate(issuer, request.ca.signer, {
    subject: sequence(),
    notBefore: request.notBefore,
    notAfter: request.notAfter,
    spki: key.spki,
    extensions: [
      key.algorithm === 'rsa' ? keyUsageExtension('digitalSignature', 'keyEncipherment') : keyUsageExtension('digitalSignature'),
      extendedKeyUsageExtension('serverAuth'),
      basicConstraintsExtension(false),
      subjectKeyIdExtension(keyId),
      authorityKeyIdExtension(issuer.keyId),
      subjectAltNameExtension(true, names),
    ],
  });
}
