import { createHash } from 'node:crypto';
import { SignetError } from '../../base/errors.ts';
import type { Certificate } from '../../x509/certificate.ts';
import { importPublicKey } from '../../x509/keys.ts';
import { pemEncode } from '../../x509/pem.ts';
import type { SigningRequest } from '../authority.ts';

/**
 * Everything in the certificate is said by us, nothing by the CSR. With this template names and subject come from
 * `ApiPassthrough` first and extensions of the CSR are not copied
 * (https://docs.aws.amazon.com/privateca/latest/userguide/template-order-of-operations.html); it sets only that the
 * certificate is no CA's, so that key usage is ours too: EndEntityCertificate/V1 would give EC keys keyEncipherment, which
 * RFC 5480 §3 has no use for. And it is one of the few that another account may be allowed to use.
 */
const template = 'acm-pca:::template/BlankEndEntityCertificate_APIPassthrough/V1';

/** Of a common name or an organization, in characters (RFC 5280 appendix A.1, and ASN1Subject of the API). */
const longestAttribute = 64;

/** The body of IssueCertificate. `notAfter` in ms. */
export function issueRequest(certificateAuthority: string, signing: Certificate, request: SigningRequest, notAfter: number): object {
  const partition = certificateAuthority.split(':', 2)[1] ?? 'aws';
  const { trustDomain, path } = partsOf(request.spiffeId);
  return {
    CertificateAuthorityArn: certificateAuthority,
    Csr: Buffer.from(pemEncode('CERTIFICATE REQUEST', request.csr())).toString('base64'),
    SigningAlgorithm: signingAlgorithm(signing),
    TemplateArn: `arn:${partition}:${template}`,
    ApiPassthrough: {
      // A subject, although SPIFFE needs none: the CA's audit report shows nothing else, and whoever's CSR it is can't choose it.
      Subject: { Organization: trustDomain.slice(0, longestAttribute), CommonName: path.slice(0, longestAttribute) },
      Extensions: {
        SubjectAlternativeNames: [{ UniformResourceIdentifier: request.spiffeId }],
        KeyUsage: { DigitalSignature: true },
        ExtendedKeyUsage: [{ ExtendedKeyUsageType: 'SERVER_AUTH' }, { ExtendedKeyUsageType: 'CLIENT_AUTH' }],
      },
    },
    // Without it the CA backdates by an hour.
    ValidityNotBefore: { Type: 'ABSOLUTE', Value: Math.floor(request.notBefore / 1000) },
    Validity: { Type: 'ABSOLUTE', Value: Math.floor(notAfter / 1000) },
    IdempotencyToken: idempotencyToken(request, notAfter),
  };
}

/** The same for the same request: a retry whose first answer was lost gets that certificate, and it is paid once. At most 36 characters. */
function idempotencyToken({ spkiSha256, spiffeId, notBefore }: SigningRequest, notAfter: number): string {
  return createHash('sha256').update(`${spkiSha256} ${spiffeId} ${notBefore} ${notAfter}`).digest('hex').slice(0, 36);
}

/** The family must be that of the CA's key (IssueCertificate, SigningAlgorithm). Throws AUTHORITY_MISCONFIGURED. */
function signingAlgorithm({ spki, subjectText }: Certificate): string {
  const unsupported = (): SignetError =>
    new SignetError('AUTHORITY_MISCONFIGURED', `the key of ${subjectText} is neither RSA nor on P-256, P-384 or P-521`);
  const key = importPublicKey(spki, unsupported);
  if (key.asymmetricKeyType === 'rsa') return 'SHA256WITHRSA';
  const algorithm = byCurve.get(key.asymmetricKeyDetails?.namedCurve ?? '');
  if (algorithm === undefined) throw unsupported();
  return algorithm;
}

const byCurve: ReadonlyMap<string, string> = new Map([
  ['prime256v1', 'SHA256WITHECDSA'],
  ['secp384r1', 'SHA384WITHECDSA'],
  ['secp521r1', 'SHA512WITHECDSA'],
]);

function partsOf(spiffeId: string): { readonly trustDomain: string; readonly path: string } {
  const rest = spiffeId.slice('spiffe://'.length);
  const slash = rest.indexOf('/');
  return { trustDomain: rest.slice(0, slash), path: rest.slice(slash) };
}
