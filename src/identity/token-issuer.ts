import type { SpiffeId, TrustDomain } from '../spiffe/id.ts';
import { isSpiffeId } from '../spiffe/id.ts';
import type { PathMatcher } from '../spiffe/pattern.ts';
import { compilePattern } from '../spiffe/pattern.ts';
import { isReservedPath } from '../spiffe/reserved-path.ts';
import { authenticationFailed } from './authentication-failure.ts';
import type { Pod } from './caller.ts';
import { compileInstance } from './instance-name.ts';
import type { IssuerSettings } from './issuer-settings.ts';
import type { JsonObject } from './json-pointer.ts';
import type { JwsAlgorithm } from './jws-algorithm.ts';
import type { KeySource } from './key-source.ts';
import { compileTemplate } from './path-template.ts';
import { podOf } from './pod-claims.ts';

/** One configured issuer, compiled: from verified claims to an identity. */
export interface TokenIssuer {
  readonly id: string;
  /** The `iss` claim. */
  readonly name: string;
  readonly audiences: ReadonlySet<string>;
  readonly algorithms: ReadonlySet<JwsAlgorithm>;
  readonly keys: KeySource;
  /** Throws UNAUTHENTICATED: `claim`, or `not-allowed` by the issuer's patterns. */
  identify(claims: JsonObject): { readonly spiffeId: SpiffeId; readonly instance: string | undefined; readonly pod: Pod | undefined };
  /** Whether this issuer may still make this identity, by its path. */
  allows(path: string): boolean;
}

/** Throws INVALID_ARGUMENT on settings that checkIssuerSettings would refuse. */
export function createTokenIssuer(settings: IssuerSettings, trustDomain: TrustDomain, keys: KeySource): TokenIssuer {
  const template = compileTemplate(settings.path);
  const instanceOf = compileInstance(settings.instance);
  const allow: readonly PathMatcher[] = settings.allow.map(compilePattern);
  const deny: readonly PathMatcher[] = settings.deny.map(compilePattern);
  const allows = (path: string): boolean =>
    !isReservedPath(path) && allow.some((matches) => matches(path)) && !deny.some((matches) => matches(path));
  return {
    id: settings.id,
    name: settings.issuer,
    audiences: new Set(settings.audiences),
    algorithms: new Set(settings.algorithms),
    keys,
    allows,
    identify(claims) {
      const path = template.fill(claims);
      const spiffeId = `spiffe://${trustDomain}${path}`;
      if (!isSpiffeId(spiffeId)) throw authenticationFailed('claim', 'the claims make no SPIFFE ID');
      if (!allows(path)) throw authenticationFailed('not-allowed', `issuer "${settings.id}" may not make ${path}`);
      return { spiffeId, instance: instanceOf(claims), pod: podOf(claims) };
    },
  };
}
