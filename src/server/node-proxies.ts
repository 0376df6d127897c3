import { createImpersonation } from '../api/impersonation.ts';
import type { Impersonation } from '../api/impersonation.ts';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Recorder } from '../issuance/recorder.ts';
import type { Policy } from '../policy/policy.ts';
import type { TrustDomain } from '../spiffe/id.ts';
import type { Config } from './config/schema.ts';
import type { Identity } from './identity.ts';

/** Nothing asks a Kubernetes API yet, so no pod is proved to be anywhere, and whoever configured node accounts is told so. */
export function createNodeProxies(parts: {
  readonly config: Config;
  readonly trustDomain: TrustDomain;
  readonly identity: Pick<Identity, 'tokens'>;
  readonly policy: Policy;
  readonly recorder: Pick<Recorder, 'audit'>;
  readonly clock: Clock;
  readonly log: Log;
}): Impersonation {
  const accounts = parts.config.policy.trustedNodeAccounts;
  if (accounts.length > 0) {
    parts.log.warn(
      { accounts },
      'policy.trustedNodeAccounts has no effect: nothing here knows which pods run on a node, so node proxies get no certificates for others',
    );
  }
  return createImpersonation({
    trustDomain: parts.trustDomain,
    nodeAccounts: new Set(accounts),
    pods: undefined,
    mayMake: parts.identity.tokens.allows,
    allowed: parts.policy.grant,
    append: parts.recorder.audit,
    clock: parts.clock,
  });
}
