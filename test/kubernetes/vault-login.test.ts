import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { signingRequest } from '../../src/ca/conformance/authority-under-test.ts';
import { startKubeApiServer } from '../support/engines/kube-apiserver.ts';
import type { KubeApiServer } from '../support/engines/kube-apiserver.ts';
import { baoPki } from '../support/engines/openbao-pki.ts';
import { failureOf } from '../support/failure.ts';
import { checkSigned, signingPolicy, vaultTrustDomain, vaultWorld } from '../support/vault-world.ts';
import type { VaultWorld } from '../support/vault-world.ts';

const never = new AbortController().signal;

const accounts = `
apiVersion: v1
kind: Namespace
metadata: { name: signet }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: signet, namespace: signet }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: other, namespace: signet }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: reviewer, namespace: signet }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: vault-reviewer }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:auth-delegator }
subjects: [{ kind: ServiceAccount, name: reviewer, namespace: signet }]
`;

describe('logging in at OpenBao with a service-account token that a real API server reviews', () => {
  let world: VaultWorld;
  let kube: KubeApiServer;

  before(async () => {
    [world, kube] = await Promise.all([vaultWorld(), startKubeApiServer()]);
    const { bao } = world;
    await kube.apply(accounts);
    await baoPki(bao, { trustDomain: vaultTrustDomain });
    await bao.api('POST', 'sys/policies/acl/signet', { policy: signingPolicy });
    await bao.api('POST', 'sys/auth/kubernetes', { type: 'kubernetes' });
    await bao.api('POST', 'auth/kubernetes/config', {
      kubernetes_host: kube.address,
      kubernetes_ca_cert: await readFile(kube.caFile, 'utf8'),
      token_reviewer_jwt: await kube.token({ namespace: 'signet', serviceAccount: 'reviewer' }),
      disable_local_ca_jwt: true,
    });
    await bao.api('POST', 'auth/kubernetes/role/signet', {
      bound_service_account_names: ['signet'],
      bound_service_account_namespaces: ['signet'],
      audience: 'vault',
      token_policies: ['signet'],
      token_ttl: '6s',
      token_max_ttl: '12s',
    });
  });
  after(async () => {
    await world[Symbol.asyncDispose]();
    await kube[Symbol.asyncDispose]();
  });

  async function open(name: string, serviceAccount: string, audience: string) {
    const token = await kube.token({ namespace: 'signet', serviceAccount, audiences: [audience] });
    return world.open({ login: { type: 'kubernetes', role: 'signet', tokenFile: await world.put(name, token) } });
  }

  it('signs, and logs in again when the maximum of its token nears', async () => {
    const authority = await open('token', 'signet', 'vault');
    await sleep(17_000);
    const asked = signingRequest(vaultTrustDomain);
    await checkSigned(authority, asked, await authority.sign(asked, never));
    await authority.close();
  });

  it('is refused for another account, and for a token that is for somebody else', async () => {
    for (const [account, audience] of [
      ['other', 'vault'],
      ['signet', 'elsewhere'],
    ] as const) {
      const error = await failureOf(open(`${account}-${audience}`, account, audience));
      assert.equal(error.code, 'AUTHORITY_REFUSED', error.message);
    }
  });
});
