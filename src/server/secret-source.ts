import type { Caller } from '../identity/caller.ts';
import type { SecretFeed, SecretSource } from '../sds/secret-source.ts';
import type { TrustDomain } from '../spiffe/id.ts';

export interface SecretSourceParts {
  readonly trustDomain: TrustDomain;
  /** The feed of the caller's own certificate, or undefined where it can have none (no instance, or its keys are an agent's). */
  readonly identityFeed: (caller: Caller) => SecretFeed | undefined;
  readonly bundle: SecretFeed;
}

/**
 * SDS names, Envoy's and SPIRE's conventions. A name is compared whole with the few that this caller has: there is no
 * path from another's name to another's secret, so it can only look unknown.
 */
export function createSecretSource({ trustDomain, identityFeed, bundle }: SecretSourceParts): SecretSource {
  const bundleName = `spiffe://${trustDomain}`;
  return {
    lookup(caller, name) {
      if (name === 'ROOTCA' || name === bundleName) return bundle;
      if (name === 'default' || name === caller.spiffeId) return identityFeed(caller);
      return undefined;
    },
  };
}
