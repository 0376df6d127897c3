import { randomBytes } from 'node:crypto';
import type { TrustDomain } from '../spiffe/id.ts';

/** RFC 5280 appendix A.1, ub-organization-name; a trust domain may be longer, and the organization is for people only. */
const longestOrganization = 64;

/**
 * A subject that no other generation has: path builders look issuers up by name, so two roots of one name in a bundle
 * would be taken for each other.
 */
export function caSubject(
  what: string,
  trustDomain: TrustDomain,
  now: number,
): { readonly commonName: string; readonly organization: string } {
  const date = new Date(now).toISOString().slice(0, 10);
  return {
    commonName: `Signet ${what} ${date} ${randomBytes(3).toString('hex')}`,
    organization: trustDomain.slice(0, longestOrganization),
  };
}

/** CA certificates begin this long ago: clients' clocks may be behind by as much. */
export const caBackdateMs = 3_600_000;
export const yearMs = 365 * 86_400_000;

/** X.509 times are whole seconds. */
export function wholeSeconds(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}
