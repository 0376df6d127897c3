import { z } from 'zod';
import { formatDuration } from '../../base/duration.ts';
import { SignetError } from '../../base/errors.ts';
import { pemEncode } from '../../x509/pem.ts';
import type { SigningRequest } from '../authority.ts';
import { askedSeconds } from '../kubernetes/asked-life.ts';
import { condition, conditionOf, saidBy } from '../kubernetes/verdict.ts';
import type { Verdict } from '../kubernetes/verdict.ts';

export const csrCollection = '/apis/certificates.k8s.io/v1/certificatesigningrequests';

/** The API server refuses to be asked for less (certificates.k8s.io/v1, spec.expirationSeconds). */
const leastSeconds = 600;

/**
 * The `spec` of a CertificateSigningRequest, at a time in ms. Throws AUTHORITY_REFUSED for a life that the API can't be
 * asked for: what a signer gives without being asked is its longest.
 */
export function csrSpec(signerName: string, request: SigningRequest, now: number): Readonly<Record<string, unknown>> {
  const expirationSeconds = askedSeconds(request, now);
  if (expirationSeconds < leastSeconds) {
    throw new SignetError(
      'AUTHORITY_REFUSED',
      `Kubernetes can't be asked for a certificate of less than ${formatDuration(leastSeconds * 1000)}, and this one would have ` +
        `${formatDuration(Math.max(0, expirationSeconds) * 1000)}: ask for a longer life, or give its identity another tier or backend`,
    );
  }
  return {
    request: Buffer.from(pemEncode('CERTIFICATE REQUEST', request.csr())).toString('base64'),
    signerName,
    expirationSeconds,
    usages: ['digital signature', 'server auth', 'client auth'],
  };
}

const answered = z.object({
  status: z.object({ certificate: z.base64().max(1_000_000).optional(), conditions: z.array(condition).max(50).optional() }).optional(),
});

/** How a CertificateSigningRequest stands. A certificate counts only with the approval: the API server sees to that. */
export function judgeCsr(object: unknown): Verdict {
  const { certificate = '', conditions = [] } = answered.parse(object).status ?? {};
  const denied = conditionOf(conditions, 'Denied');
  if (denied) return failed('AUTHORITY_REFUSED', `the CertificateSigningRequest was denied (${saidBy(denied)})`);
  const fault = conditionOf(conditions, 'Failed');
  if (fault) return failed('AUTHORITY_REFUSED', `the signer could not issue the CertificateSigningRequest (${saidBy(fault)})`);
  if (certificate !== '') return { kind: 'issued', pem: Buffer.from(certificate, 'base64').toString('latin1') };
  const approved = conditionOf(conditions, 'Approved') !== undefined;
  return { kind: 'waiting', pending: false, detail: approved ? 'approved, but not signed' : 'not approved' };
}

function failed(code: 'AUTHORITY_REFUSED', message: string): Verdict {
  return { kind: 'failed', error: new SignetError(code, message) };
}
