import { z } from 'zod';
import { SignetError } from '../../base/errors.ts';
import type { ErrorCode } from '../../base/errors.ts';
import { pemEncode } from '../../x509/pem.ts';
import type { SigningRequest } from '../authority.ts';
import { askedSeconds } from '../kubernetes/asked-life.ts';
import { condition, conditionOf, saidBy } from '../kubernetes/verdict.ts';
import type { Verdict } from '../kubernetes/verdict.ts';

export interface IssuerRef {
  readonly name: string;
  readonly kind: string;
  readonly group: string;
}

export function requestsIn(namespace: string): string {
  return `/apis/cert-manager.io/v1/namespaces/${namespace}/certificaterequests`;
}

/** The `spec` of a CertificateRequest, at a time in ms. Its duration is a Go duration. */
export function requestSpec(issuerRef: IssuerRef, request: SigningRequest, now: number): Readonly<Record<string, unknown>> {
  const seconds = askedSeconds(request, now);
  if (seconds < 1) throw new SignetError('AUTHORITY_REFUSED', 'cert-manager is asked for a certificate of at least 1s');
  return {
    request: Buffer.from(pemEncode('CERTIFICATE REQUEST', request.csr())).toString('base64'),
    issuerRef,
    duration: `${String(seconds)}s`,
    usages: ['digital signature', 'server auth', 'client auth'],
  };
}

const answered = z.object({
  status: z.object({ certificate: z.base64().max(1_000_000).optional(), conditions: z.array(condition).max(50).optional() }).optional(),
});

/**
 * How a CertificateRequest stands (https://cert-manager.io/docs/usage/certificaterequest/). Its `status.ca` is not looked
 * at: whoever answers a request doesn't say whom to trust.
 */
export function judgeRequest(object: unknown): Verdict {
  const { certificate = '', conditions = [] } = answered.parse(object).status ?? {};
  const denied = conditionOf(conditions, 'Denied');
  if (denied) return failed('AUTHORITY_REFUSED', `the CertificateRequest was denied (${saidBy(denied)})`);
  const invalid = conditionOf(conditions, 'InvalidRequest');
  if (invalid) return failed('AUTHORITY_REFUSED', `cert-manager takes the CertificateRequest as invalid (${saidBy(invalid)})`);
  const ready = conditions.find(({ type }) => type === 'Ready');
  if (ready?.status === 'True' && certificate !== '') return { kind: 'issued', pem: Buffer.from(certificate, 'base64').toString('latin1') };
  // It stays so, but a new request may fare better: cert-manager puts a CA behind the issuer that is away in these words, too.
  if (ready?.status === 'False' && ready.reason === 'Failed')
    return failed('AUTHORITY_UNAVAILABLE', `the issuer could not sign the CertificateRequest (${saidBy(ready)})`);
  if (ready?.status === 'False' && ready.reason === 'Denied')
    return failed('AUTHORITY_REFUSED', `the CertificateRequest was denied (${saidBy(ready)})`);
  const approved = conditionOf(conditions, 'Approved') !== undefined;
  const detail = ready ? saidBy(ready) : approved ? 'approved, but not signed' : 'not approved';
  return { kind: 'waiting', pending: ready?.reason === 'Pending', detail };
}

function failed(code: ErrorCode, message: string): Verdict {
  return { kind: 'failed', error: new SignetError(code, message) };
}
