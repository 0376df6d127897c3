import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import type { Authority } from '../../src/ca/authority.ts';
import { openCertManagerAuthority } from '../../src/ca/cert-manager/cert-manager-authority.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { signingRequest } from '../support/authority-suite.ts';
import { caIssuer } from '../support/engines/cert-manager-ca.ts';
import { startCertManager } from '../support/engines/cert-manager.ts';
import type { CertManager } from '../support/engines/cert-manager.ts';
import { startKubeApiServer } from '../support/engines/kube-apiserver.ts';
import type { KubeApiServer } from '../support/engines/kube-apiserver.ts';
import { eventually } from '../support/eventually.ts';
import { projectToken } from '../support/kubernetes-caller.ts';
import { pagePermissions } from '../support/page-text.ts';
import { signsByPage } from '../support/signs-by-page.ts';
import { silentLog } from '../support/silent-log.ts';
import { tempFolder } from '../support/temp.ts';
import type { TempFolder } from '../support/temp.ts';

const page = 'ca-cert-manager.md';
const trustDomain = parseTrustDomain('example.org');
const never = new AbortController().signal;
const namespace = 'signet-certificates';
const collection = `/apis/cert-manager.io/v1/namespaces/${namespace}/certificaterequests`;

let kube: KubeApiServer;
let certManager: CertManager;
let folder: TempFolder;
let kubeconfig: string;

const open = (issuer = 'workloads'): Promise<Authority> =>
  openCertManagerAuthority({
    name: 'cluster',
    cluster: { kubeconfig },
    namespace,
    issuer: { name: issuer, kind: 'Issuer', group: 'cert-manager.io' },
    rootsFrom: { configMap: { namespace, name: 'workload-roots', key: 'ca.crt' } },
    clock: systemClock,
    random: Math.random,
    log: silentLog,
  });

interface Seen {
  readonly metadata: { readonly name: string };
}

async function requests(): Promise<readonly Seen[]> {
  return ((await kube.call('GET', collection)).body as { items: Seen[] }).items;
}

/** As the approver does it, which here is the test. */
async function judge(type: 'Approved' | 'Denied'): Promise<void> {
  const { metadata } = await eventually('a request', async () => (await requests())[0]);
  const condition = { type, status: 'True', reason: 'policy.example', message: `the test says ${type}` };
  await kube.call(
    'PATCH',
    `${collection}/${metadata.name}/status`,
    { status: { conditions: [condition] } },
    'application/merge-patch+json',
  );
}

describe('cert-manager with an approver of its own', () => {
  before(async () => {
    folder = await tempFolder();
    kube = await startKubeApiServer();
    certManager = await startCertManager(kube, { approve: false });
    await caIssuer(kube);
    ({ kubeconfig } = await projectToken(kube, folder, 'signet', 'signet'));
    await kube.apply(await pagePermissions(page));
  });
  after(async () => {
    await certManager[Symbol.asyncDispose]();
    await kube[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  it("signs by the page's configuration once it is approved, and nothing is left of it", async () => {
    await Promise.all([signsByPage(page, { kubeconfig }), judge('Approved')]);
    await eventually('no request is left', async () => (await requests()).length === 0 || undefined);
  });

  it('quotes the approver who denies', async () => {
    await using authority = disposable(await open());
    await Promise.all([
      assert.rejects(authority.sign(signingRequest(trustDomain), never), {
        code: 'AUTHORITY_REFUSED',
        message: /denied \(policy\.example: the test says Denied\)/,
      }),
      judge('Denied'),
    ]);
  });

  it('waits for an approver no longer than its caller does, and says so in health', async () => {
    await using authority = disposable(await open());
    await assert.rejects(authority.sign(signingRequest(trustDomain), AbortSignal.timeout(4000)), { code: 'DEADLINE_EXCEEDED' });
    const { canSign, detail } = await authority.health(never);
    assert.equal(canSign, false);
    assert.match(detail, /the last one: not approved/);
  });

  it('tells an issuer that is not ready from one that is', async () => {
    await kube.apply(
      `{apiVersion: cert-manager.io/v1, kind: Issuer, metadata: {name: broken, namespace: ${namespace}}, spec: {ca: {secretName: none}}}`,
    );
    await using broken = disposable(await open('broken'));
    await eventually('its state is known', async () => /is not ready \(.*none/.exec((await broken.health(never)).detail)?.[0]);
    await using good = disposable(await open());
    assert.deepEqual(await good.health(never), { canSign: true, detail: 'Issuer workloads is ready' });
  });

  it("may not read the CA's Secret, nor approve", async () => {
    const may = async (verb: string, resource: string, group: string, subresource = ''): Promise<boolean> => {
      const spec = { user: 'system:serviceaccount:signet:signet', resourceAttributes: { verb, resource, subresource, group, namespace } };
      const review = { apiVersion: 'authorization.k8s.io/v1', kind: 'SubjectAccessReview', spec };
      const { body } = await kube.call('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', review);
      return (body as { status: { allowed: boolean } }).status.allowed;
    };
    assert.equal(await may('create', 'certificaterequests', 'cert-manager.io'), true);
    assert.equal(await may('get', 'secrets', ''), false);
    assert.equal(await may('get', 'configmaps', ''), false);
    assert.equal(await may('update', 'certificaterequests', 'cert-manager.io', 'status'), false);
    assert.equal(await may('approve', 'signers', 'cert-manager.io'), false);
  });
});

function disposable(authority: Authority): Authority & AsyncDisposable {
  return Object.assign(authority, { [Symbol.asyncDispose]: () => authority.close() });
}
