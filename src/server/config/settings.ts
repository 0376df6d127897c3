import type { IssuerSettings } from '../../identity/issuer-settings.ts';
import type { IssuanceGateLimits } from '../../issuance/issuance-gate.ts';
import type { PolicySettings } from '../../policy/rules.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import { parseTrustDomain } from '../../spiffe/id.ts';
import { defaults } from './defaults.ts';
import type { Config, IssuerConfig } from './schema.ts';

/** The configuration in the shapes that identity/ and policy/ declare. */
const kubernetesPodUid = '/kubernetes.io/pod/uid';
/** Istio's agents have tokens of this audience; they are good on Istio's service alone. */
const istioAudience = 'istio-ca';

export function trustDomainOf(config: Config): TrustDomain {
  return parseTrustDomain(config.trustDomain);
}

export function issuerSettings(issuer: IssuerConfig): IssuerSettings {
  const instance = issuer.instance ?? (issuer.path === defaults.issuer.path ? kubernetesPodUid : undefined);
  const common = {
    id: issuer.id,
    issuer: issuer.issuer,
    audiences: issuer.audiences,
    algorithms: issuer.algorithms,
    path: issuer.path,
    allow: issuer.allow,
    deny: issuer.deny,
    ...(issuer.cluster === undefined ? {} : { cluster: issuer.cluster }),
    ...(instance === undefined ? {} : { instance }),
  };
  if (issuer.tokenReview) return { ...common, review: { cacheForMs: issuer.tokenReview.cacheFor } };
  return {
    ...common,
    // cross-check.ts has made sure that exactly one is given.
    keys: issuer.discovery === undefined ? { jwks: issuer.jwks ?? '' } : { discovery: issuer.discovery },
    ...(issuer.caFile === undefined ? {} : { caFile: issuer.caFile }),
    ...(issuer.tokenFile === undefined ? {} : { tokenFile: issuer.tokenFile }),
  };
}

/** The development issuer beside those of the configuration. */
export function devIssuerSettings(keys: { readonly issuer: string; readonly jwks: object }): IssuerSettings {
  return {
    id: 'dev',
    issuer: keys.issuer,
    audiences: defaults.issuer.audiences,
    keys: { inline: keys.jwks },
    algorithms: defaults.issuer.algorithms,
    path: defaults.issuer.path,
    instance: kubernetesPodUid,
    allow: ['**'],
    deny: [],
  };
}

export interface ApiAudiences {
  /** SDS and signet.v1. */
  readonly signet: readonly string[];
  /** Istio's CA service. */
  readonly istio: readonly string[];
}

export function apiAudiences(issuers: readonly Pick<IssuerSettings, 'audiences'>[]): ApiAudiences {
  const all = [...new Set(issuers.flatMap((issuer) => issuer.audiences))];
  return { signet: all.filter((audience) => audience !== istioAudience), istio: all };
}

export function policySettings(config: Config): PolicySettings {
  const { policy } = config;
  return {
    tiers: policy.tiers,
    rules: policy.rules,
    keyModes: policy.keyModes.map(({ match, mode, keyDirectories, keyMaxAge }) => ({
      match,
      mode,
      keyDirectories,
      keyMaxAgeMs: keyMaxAge,
    })),
    downstream: policy.downstream.map(({ match, maxTtl, backend }) => ({ match, maxTtlMs: maxTtl, backend })),
    defaults: {
      tier: policy.defaults.tier,
      backend: config.ca.default,
      keyMode: policy.defaults.keyMode,
      keyDirectories: policy.defaults.keyDirectories,
      keyMaxAgeMs: policy.defaults.keyMaxAge,
    },
  };
}

/** One that signs in this process is never waited for: what is in the making there waits for the store alone, and shares its commits. */
const leastInProcess = 512;

export function gateLimits(config: Config, signsHere: (authority: string) => boolean): Partial<IssuanceGateLimits> {
  const { limits } = config;
  const { concurrency, queue, wait } = config.ca.signing;
  return {
    identityRate: { perSecond: limits.issuancePerSecond, burst: limits.issuanceBurst },
    totalRate: { perSecond: limits.totalIssuancePerSecond, burst: limits.totalIssuanceBurst },
    concurrency: (authority) => (signsHere(authority) ? Math.max(concurrency, leastInProcess) : concurrency),
    queue,
    waitMs: wait,
  };
}
