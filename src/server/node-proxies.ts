import { createImpersonation } from '../api/impersonation.ts';
import type { Impersonation } from '../api/impersonation.ts';
import type { PodsOnNode } from '../api/impersonation.ts';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Recorder } from '../issuance/recorder.ts';
import type { TrustDomain } from '../spiffe/id.ts';
import type { Clusters } from './clusters.ts';
import type { Config } from './config/schema.ts';
import type { Identity } from './identity.ts';
import type { PolicyInForce } from './policy-in-force.ts';

/** Where no issuer has an API server that knows its pods, whoever configured node accounts is told that they have no effect. */
export async function createNodeProxies(parts: {
  readonly config: Config;
  readonly trustDomain: TrustDomain;
  readonly identity: Pick<Identity, 'tokens'>;
  readonly clusters: Clusters;
  readonly policy: PolicyInForce;
  readonly recorder: Pick<Recorder, 'audit'>;
  readonly clock: Clock;
  readonly log: Log;
}): Promise<Impersonation> {
  const { tokens } = parts.identity;
  const accounts = parts.config.policy.trustedNodeAccounts;
  const pods = new Map<string, PodsOnNode>();
  if (parts.clusters.clients.size > 0) {
    // It takes an HTTP client with it, which takes a while to load; many servers have no cluster.
    const { createPodsOnNode } = await import('./pods-on-node.ts');
    for (const [issuer, client] of parts.clusters.clients)
      pods.set(
        issuer,
        createPodsOnNode(client, (id) => tokens.accountOf(issuer, id)),
      );
  }
  if (accounts.length > 0 && pods.size === 0) {
    parts.log.warn(
      { accounts },
      'policy.trustedNodeAccounts has no effect: no issuer has `tokenReview` or `pods`, so nothing here knows which pods run on a node',
    );
  }
  return createImpersonation({
    trustDomain: parts.trustDomain,
    nodeAccounts: parts.policy.nodeAccounts,
    podsOf: (issuer) => pods.get(issuer),
    mayMake: tokens.allows,
    allowed: parts.policy.grant,
    append: parts.recorder.audit,
    clock: parts.clock,
  });
}
