import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import type { ConfigInput } from '../../src/server/config/schema.ts';
import { istioRequest, kubeWorld } from '../support/kube-world.ts';
import type { KubeWorld, RunningPod } from '../support/kube-world.ts';
import { wholeServer } from '../support/whole-server.ts';
import type { WholeServer } from '../support/whole-server.ts';

const webId = 'spiffe://example.org/ns/shop/sa/web';
const apiId = 'spiffe://example.org/ns/shop/sa/api';

let world: KubeWorld;
let whole: WholeServer;
let ztunnel: RunningPod;
let token: string;

before(async () => {
  world = await kubeWorld();
  ztunnel = await world.pod({ name: 'ztunnel-1', namespace: 'istio-system', serviceAccount: 'ztunnel', node: 'node-1' });
  token = await world.token(ztunnel, ['istio-ca']);
  whole = await wholeServer(trusting({ tokenReview: { kubeconfig: world.kubeconfig } }));
});
after(async () => {
  await whole[Symbol.asyncDispose]();
  await world[Symbol.asyncDispose]();
});

type IssuerInput = NonNullable<NonNullable<ConfigInput['identity']>['issuers']>[number];

function trusting(proof: Partial<IssuerInput>): Partial<ConfigInput> {
  return {
    identity: { issuers: [{ id: 'cluster', issuer: world.kube.issuer, allow: ['**'], ...proof }] },
    policy: { trustedNodeAccounts: ['/ns/istio-system/sa/ztunnel'] },
  };
}

/** The URI of the certificate that ztunnel gets for this identity, or the code of the refusal. */
async function impersonate(identity: string, by = token, server = whole): Promise<string> {
  const [request, metadata] = istioRequest({ token: by, impersonate: identity });
  try {
    const { cert_chain: chain } = (await server.doors.istio.call('CreateCertificate', request, metadata)) as {
      readonly cert_chain: readonly string[];
    };
    return new X509Certificate(chain[0] ?? '').subjectAltName ?? '';
  } catch {
    const { code, details } = await server.doors.istio.refused('CreateCertificate', request, metadata);
    return `${code} ${details}`;
  }
}

const refused = '16 authentication failed';

describe('a node proxy, by what the API server says', () => {
  it('gets the certificate of a pod on its own node, and of none elsewhere', async () => {
    await world.pod({ name: 'web-1', serviceAccount: 'web', node: 'node-1' });
    await world.pod({ name: 'api-1', serviceAccount: 'api', node: 'node-2' });
    assert.equal(await impersonate(webId), `URI:${webId}`);
    assert.equal(await impersonate(apiId), refused);
    assert.equal(await impersonate('spiffe://example.org/ns/shop/sa/nobody'), refused);
  });

  it('gets it no longer once the pod has ended or is deleted, from the next request on', async () => {
    const pod = await world.pod({ name: 'api-2', serviceAccount: 'api', node: 'node-1' });
    assert.equal(await impersonate(apiId), `URI:${apiId}`);
    await pod.setPhase('Succeeded');
    assert.equal(await impersonate(apiId), refused);
    await pod.setPhase('Running');
    assert.equal(await impersonate(apiId), `URI:${apiId}`);
    await pod.remove();
    assert.equal(await impersonate(apiId), refused);
  });

  it('gets nothing once its own pod is another one', async () => {
    const proxy = await world.pod({ name: 'ztunnel-2', namespace: 'istio-system', serviceAccount: 'ztunnel', node: 'node-1' });
    const itsToken = await world.token(proxy, ['istio-ca']);
    assert.equal(await impersonate(webId, itsToken), `URI:${webId}`);
    await proxy.remove();
    assert.equal(await impersonate(webId, itsToken), refused);
    await world.pod({ name: 'ztunnel-2', namespace: 'istio-system', serviceAccount: 'ztunnel', node: 'node-1' });
    assert.equal(await impersonate(webId, itsToken), refused, 'a pod of that name has another uid');
  });

  it('is nobody else: a workload that asks in the name of another is refused', async () => {
    const pod = await world.pod({ name: 'web-2', serviceAccount: 'web', node: 'node-1' });
    assert.equal(await impersonate(apiId, await world.token(pod, ['istio-ca'])), refused);
  });

  it('is told to come back while the API server is away: nothing is believed without it', async () => {
    assert.equal(await impersonate(webId), `URI:${webId}`);
    await world.kube.stop();
    assert.match(await impersonate(webId), /^14 which pods run on this node can not be told now$/);
    await world.kube.start();
    assert.equal(await impersonate(webId), `URI:${webId}`);
  });

  it('is served as well where the tokens are verified by published keys, and `pods` says whom to ask', async () => {
    await world.kube.apply(discoveryBinding);
    const keys = { discovery: world.kube.address, caFile: world.kube.caFile, tokenFile: world.tokenFile };
    await using byKeys = await wholeServer(trusting({ ...keys, pods: { kubeconfig: world.kubeconfig } }));
    assert.equal(await impersonate(webId, token, byKeys), `URI:${webId}`);
    assert.equal(await impersonate('spiffe://example.org/ns/shop/sa/nobody', token, byKeys), refused);
    await using without = await wholeServer(trusting(keys));
    assert.equal(await impersonate(webId, token, without), refused);
  });
});

const discoveryBinding = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: signet-issuer-discovery }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:service-account-issuer-discovery" }
subjects: [{ kind: ServiceAccount, name: signet, namespace: signet-system }]
`;
