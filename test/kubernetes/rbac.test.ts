import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { z } from 'zod';
import { createKubernetesClient } from '../../src/kubernetes/client.ts';
import type { ApiCall, KubernetesClient } from '../../src/kubernetes/client.ts';
import { openClusterAccess } from '../../src/kubernetes/settings.ts';
import { kubeWorld } from '../support/kube-world.ts';
import type { KubeWorld } from '../support/kube-world.ts';

const noHurry = new AbortController().signal;

/** The other tests of this folder show that deploy/kubernetes/rbac.yaml is enough: their servers have nothing else. */
describe("what deploy/kubernetes/rbac.yaml lets Signet's account do", () => {
  let world: KubeWorld;
  let signet: KubernetesClient;
  before(async () => {
    world = await kubeWorld();
    signet = createKubernetesClient(await openClusterAccess({ kubeconfig: world.kubeconfig }));
  });
  after(async () => {
    await signet.close();
    await world[Symbol.asyncDispose]();
  });

  async function tried(method: ApiCall<unknown>['method'], path: string, body?: object): Promise<string> {
    const answer = await signet.ask({ method, path, body, answer: z.unknown() }, noHurry);
    return answer.ok ? 'done' : answer.failure.kind;
  }

  it('is reviewing tokens, and looking for pods', async () => {
    const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token: 'x', audiences: ['signet'] } };
    assert.equal(await tried('POST', '/apis/authentication.k8s.io/v1/tokenreviews', review), 'done');
    assert.equal(await tried('GET', '/api/v1/namespaces/shop/pods?fieldSelector=spec.nodeName%3Dnode-1'), 'done');
    assert.equal(await tried('GET', '/api/v1/namespaces/shop/pods/none'), 'not-found');
  });

  const configMap = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'x' } };
  const binding = {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRoleBinding',
    metadata: { name: 'more' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
    subjects: [{ kind: 'ServiceAccount', name: 'signet', namespace: 'signet-system' }],
  };
  const tokenRequest = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { audiences: ['signet'] } };
  const forbidden: readonly (readonly [what: string, method: ApiCall<unknown>['method'], path: string, body?: object])[] = [
    ['read secrets', 'GET', '/api/v1/namespaces/shop/secrets'],
    ['read those of its own namespace', 'GET', '/api/v1/namespaces/signet-system/secrets'],
    ['read or write configuration', 'GET', '/api/v1/namespaces/shop/configmaps'],
    ['write it', 'POST', '/api/v1/namespaces/signet-system/configmaps', configMap],
    ['make tokens for others', 'POST', '/api/v1/namespaces/shop/serviceaccounts/web/token', tokenRequest],
    ['delete pods', 'DELETE', '/api/v1/namespaces/shop/pods/web-0'],
    ['run something in them', 'POST', '/api/v1/namespaces/shop/pods/web-0/exec?command=id'],
    ['read their logs', 'GET', '/api/v1/namespaces/shop/pods/web-0/log'],
    ['watch them', 'GET', '/api/v1/pods?watch=true'],
    ['see nodes', 'GET', '/api/v1/nodes'],
    ['give itself more', 'POST', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', binding],
  ];
  for (const [what, method, path, body] of forbidden) {
    it(`is not: ${what}`, async () => {
      assert.equal(await tried(method, path, body), 'forbidden');
    });
  }
});
