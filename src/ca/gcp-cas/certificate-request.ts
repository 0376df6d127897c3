import { createHash } from 'node:crypto';
import { SignetError } from '../../base/errors.ts';
import { pemEncode } from '../../x509/pem.ts';
import type { SigningRequest } from '../authority.ts';

/** The service counts a life from when it signs, by its own clock: for the way there and the difference of the clocks. */
const mostMarginMs = 10_000;
const longestAttribute = 64;

/** What certificates.create is called with. */
export interface CertificateCreation {
  readonly query: { readonly certificateId: string; readonly requestId: string };
  readonly body: object;
}

/**
 * The certificate described by us (`config`), not by the CSR: a CSR's extensions would pass through as far as the pool
 * lets them, and its key usages would be missing (https://cloud.google.com/certificate-authority-service/docs/reference/rest/v1/CertificateConfig).
 * Proof of possession has been verified already. `now` in ms. Throws AUTHORITY_MISCONFIGURED if no life is left.
 */
export function certificateCreation(request: SigningRequest, now: number, template: string | undefined): CertificateCreation {
  const { spiffeId, spki, notAfter } = request;
  const left = notAfter - now;
  const seconds = Math.floor((left - Math.min(mostMarginMs, left / 10)) / 1000);
  if (seconds < 1) throw new SignetError('AUTHORITY_MISCONFIGURED', 'the certificate would end before it is made');
  const rest = spiffeId.slice('spiffe://'.length);
  return {
    query: identifiers(request),
    body: {
      lifetime: `${seconds}s`,
      ...(template === undefined ? {} : { certificateTemplate: template }),
      config: {
        subjectConfig: {
          // Not empty, so that the names need not be critical: whether the service makes them so is not told.
          subject: { organization: rest.slice(0, rest.indexOf('/')).slice(0, longestAttribute) },
          subjectAltName: { uris: [spiffeId] },
        },
        x509Config: {
          keyUsage: { baseKeyUsage: { digitalSignature: true }, extendedKeyUsage: { serverAuth: true, clientAuth: true } },
          caOptions: { isCa: false },
        },
        publicKey: { format: 'PEM', key: Buffer.from(pemEncode('PUBLIC KEY', spki)).toString('base64') },
      },
    },
  };
}

/**
 * The same for the same request: within an hour a retry whose first answer was lost gets that certificate, and it is paid
 * once. The pool's Enterprise tier wants a name for each certificate.
 */
function identifiers({ spkiSha256, spiffeId, notBefore, notAfter }: SigningRequest): CertificateCreation['query'] {
  const digest = createHash('sha256').update(`${spkiSha256} ${spiffeId} ${notBefore} ${notAfter}`).digest();
  const certificateId = `signet-${digest.toString('hex').slice(0, 40)}`;
  // RFC 9562 §5.8: a UUID of version 8 holds what its maker likes.
  const octets = digest.subarray(16);
  octets[6] = ((octets[6] ?? 0) & 0x0f) | 0x80;
  octets[8] = ((octets[8] ?? 0) & 0x3f) | 0x80;
  const hex = octets.toString('hex');
  const requestId = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
  return { certificateId, requestId };
}
