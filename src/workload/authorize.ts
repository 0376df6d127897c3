import { parseSpiffeId, parseTrustDomain } from '../spiffe/id.ts';
import { trustDomainName } from './x509-context.ts';

/** Whether the peer of this SPIFFE ID may be spoken to. Its certificate is verified before this is asked. */
export type Authorize = (spiffeId: string) => boolean;

/** Exactly these identities. Throws INVALID_ARGUMENT for what is no SPIFFE ID, which would never match. */
export function oneOf(...spiffeIds: readonly [string, ...string[]]): Authorize {
  const allowed = new Set<string>(spiffeIds.map(parseSpiffeId));
  return (spiffeId) => allowed.has(spiffeId);
}

/** Every identity of a trust domain, given as `spiffe://td`. Throws INVALID_ARGUMENT. */
export function memberOf(trustDomain: string): Authorize {
  const name = `spiffe://${parseTrustDomain(trustDomain.replace(/^spiffe:\/\//, ''))}`;
  return (spiffeId) => trustDomainName(spiffeId) === name;
}
