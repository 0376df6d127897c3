import type { SpiffeId, TrustDomain } from '../spiffe/id.ts';
import { pathOf } from '../spiffe/id.ts';
import type { Pod } from './caller.ts';
import { compileIdentityRule } from './identity-rule.ts';
import type { IssuerSettings } from './issuer-settings.ts';
import type { JsonObject } from './json-pointer.ts';
import type { JwsAlgorithm } from './jws-algorithm.ts';
import type { KeySource } from './key-source.ts';
import { compileTemplate } from './path-template.ts';
import { podOf } from './pod-claims.ts';
import type { TokenReviewer } from './token-review.ts';

/** One configured issuer, compiled: from verified claims to an identity. */
export interface TokenIssuer {
  readonly id: string;
  /** The `iss` claim. */
  readonly name: string;
  readonly cluster: string | undefined;
  readonly audiences: ReadonlySet<string>;
  readonly algorithms: ReadonlySet<JwsAlgorithm>;
  /** Throws UNAUTHENTICATED: `claim`, or `not-allowed` by the issuer's patterns. */
  identify(claims: JsonObject): { readonly spiffeId: SpiffeId; readonly instance: string | undefined; readonly pod: Pod | undefined };
  /** Whether this issuer may still make this identity, by its path. */
  allows(path: string): boolean;
  /** The Kubernetes service account that has this identity; undefined where the path doesn't say so and nothing else. */
  accountOf(spiffeId: SpiffeId): ServiceAccount | undefined;
}

export interface ServiceAccount {
  readonly namespace: string;
  readonly name: string;
}

/** By published keys. */
export type KeyIssuer = TokenIssuer & { readonly keys: KeySource };
/** By asking the cluster. */
export type ReviewedIssuer = TokenIssuer & { readonly reviewer: TokenReviewer; readonly cacheForMs: number };

const namespaceClaim = '/kubernetes.io/namespace';
const accountClaim = '/kubernetes.io/serviceaccount/name';

/** Throws INVALID_ARGUMENT on settings that checkIssuerSettings would refuse. */
export function createTokenIssuer(settings: IssuerSettings, trustDomain: TrustDomain): TokenIssuer {
  const rule = compileIdentityRule(settings, trustDomain);
  const template = compileTemplate(settings.path);
  return {
    id: settings.id,
    name: settings.issuer,
    cluster: settings.cluster,
    audiences: new Set(settings.audiences),
    algorithms: new Set(settings.algorithms),
    allows: rule.allows,
    identify: (claims) => ({ ...rule.identify(claims), pod: podOf(claims) }),
    accountOf(spiffeId) {
      const values = template.read(pathOf(spiffeId));
      const [namespace, name] = [values?.get(namespaceClaim), values?.get(accountClaim)];
      // Were another claim in the path, not every pod of the account would have this identity.
      return namespace === undefined || name === undefined || values?.size !== 2 ? undefined : { namespace, name };
    },
  };
}
