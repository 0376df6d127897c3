import type { SpiffeId, TrustDomain } from '../spiffe/id.ts';
import type { Policy } from '../policy/policy.ts';
import { createPolicy } from '../policy/rules.ts';
import type { Config } from './config/schema.ts';
import { policySettings } from './config/settings.ts';

/** The policy of the configuration in force: asked at each use, so another one holds from the moment it is put in. */
export interface PolicyInForce extends Policy {
  /** SPIFFE paths of the node proxies that may ask for others' certificates. */
  nodeAccounts(): ReadonlySet<string>;
  /** Judges another configuration's; throws CONFIG_INVALID. What is returned puts it in force. */
  prepare(config: Config): () => void;
}

export function createPolicyInForce(
  config: Config,
  context: { readonly trustDomain: TrustDomain; readonly denied: (id: SpiffeId) => boolean },
): PolicyInForce {
  let policy = createPolicy(policySettings(config), context);
  let nodeAccounts = new Set(config.policy.trustedNodeAccounts);
  return {
    grant: (subject) => policy.grant(subject),
    check: (subject) => {
      policy.check(subject);
    },
    nodeAccounts: () => nodeAccounts,
    downstream: (subject) => policy.downstream(subject),
    prepare(next) {
      const prepared = createPolicy(policySettings(next), context);
      return () => {
        policy = prepared;
        nodeAccounts = new Set(next.policy.trustedNodeAccounts);
      };
    },
  };
}
