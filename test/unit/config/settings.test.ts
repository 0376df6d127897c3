import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkIssuerSettings, isReviewed } from '../../../src/identity/issuer-settings.ts';
import { createPolicy } from '../../../src/policy/rules.ts';
import { parseSpiffeId } from '../../../src/spiffe/id.ts';
import { isLoopback, isWildcard, splitAddress } from '../../../src/config/address.ts';
import { loadConfig } from '../../../src/server/config/load.ts';
import { apiAudiences, devIssuerSettings, issuerSettings, policySettings, trustDomainOf } from '../../../src/server/config/settings.ts';

const env = {
  SIGNET_IDENTITY__ISSUERS:
    '[{id: a, issuer: x, jwks: /keys.json, allow: ["**"]}, {id: b, issuer: y, discovery: "https://y", path: "/b/{/sub}", audiences: [own], allow: ["*"]}]',
  SIGNET_POLICY__RULES: '[{match: /ns/pay/**, tier: critical}]',
  SIGNET_POLICY__KEYMODES: '[{match: /ns/pay/**, mode: csr, keyDirectories: [/keys], keyMaxAge: 1h}]',
};

describe('what the other parts are given', () => {
  it("issuers as identity wants them, with the pod's uid as the instance of Kubernetes' path alone", async () => {
    const config = await loadConfig({ env, dev: true });
    const [a, b] = config.identity.issuers.map(issuerSettings);
    assert.ok(a && b && !isReviewed(a) && !isReviewed(b));
    assert.deepEqual([a.keys, a.instance, a.algorithms], [{ jwks: '/keys.json' }, '/kubernetes.io/pod/uid', ['RS256', 'ES256']]);
    assert.deepEqual([b.keys, b.instance], [{ discovery: 'https://y' }, undefined]);
    assert.deepEqual(checkIssuerSettings([a, b]), []);
    assert.deepEqual(checkIssuerSettings([devIssuerSettings({ issuer: 'dev', jwks: { keys: [] } })]), []);
  });

  it("istio-ca for Istio's service alone", async () => {
    const config = await loadConfig({ env, dev: true });
    assert.deepEqual(apiAudiences(config.identity.issuers), { signet: ['signet', 'own'], istio: ['signet', 'istio-ca', 'own'] });
  });

  it('rules that policy takes, in milliseconds', async () => {
    const config = await loadConfig({ env, dev: true });
    const policy = createPolicy(policySettings(config), { trustDomain: trustDomainOf(config), denied: () => false });
    const grant = policy.grant({ spiffeId: parseSpiffeId('spiffe://cluster.local/ns/pay/sa/api'), issuer: 'a' });
    assert.deepEqual(grant, {
      tier: 'critical',
      maxTtlMs: 43_200_000,
      authority: 'builtin',
      certSigners: [],
      keyMode: 'csr',
      keyDirectories: ['/keys'],
      keyMaxAgeMs: 3_600_000,
    });
    const other = policy.grant({ spiffeId: parseSpiffeId('spiffe://cluster.local/ns/web/sa/api'), issuer: 'a' });
    assert.deepEqual([other.tier, other.keyMode], ['dev', 'server']);
  });
});

it('addresses come apart, with IPv6 in its brackets', () => {
  assert.deepEqual(splitAddress('[::1]:8443'), { host: '::1', port: 8443 });
  assert.deepEqual(splitAddress('signet.example.org:0'), { host: 'signet.example.org', port: 0 });
  assert.deepEqual(['127.0.0.1', '127.8.8.8', '::1', 'localhost', '0.0.0.0', '10.0.0.1', '127.example.org'].map(isLoopback), [
    true,
    true,
    true,
    true,
    false,
    false,
    false,
  ]);
  assert.deepEqual(['0.0.0.0', '::', '127.0.0.1'].map(isWildcard), [true, true, false]);
});
