import assert from 'node:assert/strict';
import { it } from 'node:test';
import { loadConfig } from '../../../src/server/config/load.ts';
import { createPolicyInForce } from '../../../src/server/policy-in-force.ts';
import { parseTrustDomain } from '../../../src/spiffe/id.ts';

const configOf = (accounts: string) => loadConfig({ env: { SIGNET_POLICY__TRUSTEDNODEACCOUNTS: accounts }, dev: true });

it('a node account that another configuration leaves out is trusted no longer, from the moment that one is in force', async () => {
  const context = { trustDomain: parseTrustDomain('cluster.local'), denied: () => false };
  const policy = createPolicyInForce(await configOf('/ns/istio-system/sa/ztunnel'), context);
  const { nodeAccounts } = policy;
  const enforce = policy.prepare(await configOf('/ns/mesh/sa/proxy'));
  assert.deepEqual([...nodeAccounts()], ['/ns/istio-system/sa/ztunnel']);
  enforce();
  assert.deepEqual([...nodeAccounts()], ['/ns/mesh/sa/proxy']);
});
