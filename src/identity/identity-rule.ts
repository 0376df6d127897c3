import type { SpiffeId, TrustDomain } from '../spiffe/id.ts';
import { isSpiffeId } from '../spiffe/id.ts';
import type { PathMatcher } from '../spiffe/pattern.ts';
import { compilePattern } from '../spiffe/pattern.ts';
import { isReservedPath } from '../spiffe/reserved-path.ts';
import { authenticationFailed } from './authentication-failure.ts';
import { compileInstance } from './instance-name.ts';
import type { JsonObject } from './json-pointer.ts';
import { compileTemplate } from './path-template.ts';

/** How verified claims become an identity, and which identities may be made at all. */
export interface IdentityRuleSettings {
  /** Names the source of claims in records and logs. */
  readonly id: string;
  /** See path-template.ts. */
  readonly path: string;
  /** A JSON pointer to the claim that tells the bearers of one identity apart. */
  readonly instance?: string | undefined;
  /** Patterns over the SPIFFE path; none allows nothing. */
  readonly allow: readonly string[];
  readonly deny: readonly string[];
}

export interface IdentityRule {
  /** Throws UNAUTHENTICATED: `claim`, or `not-allowed` by the patterns. */
  identify(claims: JsonObject): { readonly spiffeId: SpiffeId; readonly instance: string | undefined };
  /** Whether this path may be made by this source. */
  allows(path: string): boolean;
}

/** Throws INVALID_ARGUMENT on a path, pointer or pattern that doesn't parse. */
export function compileIdentityRule(settings: IdentityRuleSettings, trustDomain: TrustDomain): IdentityRule {
  const template = compileTemplate(settings.path);
  const instanceOf = compileInstance(settings.instance);
  const allow: readonly PathMatcher[] = settings.allow.map(compilePattern);
  const deny: readonly PathMatcher[] = settings.deny.map(compilePattern);
  const allows = (path: string): boolean =>
    !isReservedPath(path) && allow.some((matches) => matches(path)) && !deny.some((matches) => matches(path));
  return {
    allows,
    identify(claims) {
      const path = template.fill(claims);
      const spiffeId = `spiffe://${trustDomain}${path}`;
      if (!isSpiffeId(spiffeId)) throw authenticationFailed('claim', 'the claims make no SPIFFE ID');
      if (!allows(path)) throw authenticationFailed('not-allowed', `"${settings.id}" may not make ${path}`);
      return { spiffeId, instance: instanceOf(claims) };
    },
  };
}
