import { SignetError } from '../../base/errors.ts';
import type { ErrorCode } from '../../base/errors.ts';
import type { ApiFailure, ApiFailureKind } from '../../kubernetes/answer.ts';

const codes: Readonly<Record<ApiFailureKind, ErrorCode>> = {
  away: 'AUTHORITY_UNAVAILABLE',
  throttled: 'AUTHORITY_THROTTLED',
  unauthenticated: 'AUTHORITY_REFUSED',
  forbidden: 'AUTHORITY_REFUSED',
  'not-found': 'AUTHORITY_MISCONFIGURED',
  conflict: 'AUTHORITY_UNAVAILABLE',
  gone: 'AUTHORITY_UNAVAILABLE',
  refused: 'AUTHORITY_REFUSED',
  malformed: 'AUTHORITY_UNAVAILABLE',
};

const advice: Partial<Readonly<Record<ApiFailureKind, string>>> = {
  unauthenticated: 'the API server does not take our token or certificate; look at the kubeconfig, or the service account of the pod',
  forbidden: 'the service account may not do this; the page of this backend has the RBAC that it needs',
  'not-found': 'the cluster has no such object or API; look at the names in the configuration, and whether its CRDs are installed',
};

/** What a failed call of the Kubernetes API means for a CA backend. The message has neither a credential nor an object in it. */
export function authorityError(backend: string, failure: ApiFailure): SignetError {
  const { kind, message, retryAfterMs, cause } = failure;
  const hint = advice[kind];
  return new SignetError(codes[kind], `CA backend ${backend}: ${message}${hint === undefined ? '' : ` (${hint})`}`, {
    cause,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}
