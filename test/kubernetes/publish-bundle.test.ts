import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import type { ConfigInput } from '../../src/server/config/schema.ts';
import { startKubeApiServer } from '../support/engines/kube-apiserver.ts';
import type { KubeApiServer } from '../support/engines/kube-apiserver.ts';
import { eventually } from '../support/eventually.ts';
import { projectToken } from '../support/kubernetes-caller.ts';
import { foreignCa } from '../support/openssl.ts';
import { pagePermissions, pageSettings } from '../support/page-text.ts';
import { replaceFile, tempFolder } from '../support/temp.ts';
import type { TempFolder } from '../support/temp.ts';
import { wholeServer } from '../support/whole-server.ts';
import type { WholeServer } from '../support/whole-server.ts';

const page = 'publish-the-bundle.md';

let kube: KubeApiServer;
let folder: TempFolder;
let whole: WholeServer;
let roots: string;

const copyIn = (namespace: string): string => `/api/v1/namespaces/${namespace}/configmaps/signet-bundle`;
const trustBundle = '/apis/certificates.k8s.io/v1beta1/clustertrustbundles/example-org';

async function get(
  path: string,
): Promise<{ readonly data?: Readonly<Record<string, string>>; readonly spec?: { readonly trustBundle?: string } } | undefined> {
  const { status, body } = await kube.call('GET', path);
  return status === 200 ? (body as { data: Record<string, string> }) : undefined;
}

const pemIn = async (namespace: string): Promise<string | undefined> => (await get(copyIn(namespace)))?.data?.['ca.crt'];
const published = async (): Promise<string | undefined> => (await get(trustBundle))?.spec?.trustBundle;

async function bundleOnDisk(): Promise<string> {
  const { readFile } = await import('node:fs/promises');
  return readFile(`${whole.folder.data}/bundle.pem`, 'utf8');
}

async function namespace(name: string, labels: Readonly<Record<string, string>> = {}): Promise<void> {
  await kube.apply(JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } }));
}

/** Until every copy is the bundle that the server has. */
async function inStep(...namespaces: readonly string[]): Promise<void> {
  await eventually(`the bundle in ${namespaces.join(', ')}`, async () => {
    const wanted = await bundleOnDisk();
    const copies = [...(await Promise.all(namespaces.map(pemIn))), await published()];
    return copies.every((pem) => pem === wanted) || undefined;
  });
}

async function metric(line: string): Promise<boolean> {
  return (await (await fetch(`http://${whole.httpAddress}/metrics`)).text()).split('\n').includes(line);
}

describe('the trust bundle in a cluster', () => {
  before(async () => {
    folder = await tempFolder();
    kube = await startKubeApiServer();
    roots = folder.file('more-roots.pem');
    await writeFile(roots, (await foreignCa('First')).certificate);
    const { kubeconfig } = await projectToken(kube, folder, 'signet', 'signet');
    await kube.apply(await pagePermissions(page));
    await namespace('shop');
    const { kubernetes } = await pageSettings(page);
    const publishBundle = { ...kubernetes?.publishBundle, kubeconfig, lease: { namespace: 'signet' } };
    const settings: Partial<ConfigInput> = {
      kubernetes: { publishBundle },
      ca: { trustedRoots: [roots], keyEncryption: { keyFile: 'kek' } },
    };
    whole = await wholeServer(settings);
  });
  after(async () => {
    await whole[Symbol.asyncDispose]();
    await kube[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  it('is in every namespace and in the ClusterTrustBundle, by the permissions of the page', async () => {
    await inStep('shop', 'signet', 'default');
    assert.equal(await metric('signet_bundle_publisher 1'), true);
  });

  it('comes to a new namespace', async () => {
    await namespace('bank');
    await inStep('bank');
  });

  it('is put back when somebody edits it', async () => {
    await kube.call('PATCH', copyIn('shop'), { data: { 'ca.crt': 'evil' } }, 'application/merge-patch+json');
    await inStep('shop');
    await eventually(
      'the count',
      async () => (await metric('signet_bundle_publications_total{kind="ConfigMap",outcome="put-back"} 1')) || undefined,
    );
    // Nor does it help to make it look like somebody else's.
    const cleared = { data: { 'ca.crt': 'evil' }, metadata: { labels: null, annotations: null, managedFields: [{}] } };
    await kube.call('PATCH', copyIn('shop'), cleared, 'application/merge-patch+json');
    await inStep('shop');
  });

  it('is put back when somebody deletes it, or another in its place', async () => {
    await kube.call('DELETE', copyIn('shop'));
    await kube.call('DELETE', trustBundle);
    await inStep('shop');
    await kube.call('DELETE', copyIn('bank'));
    await kube.call('POST', '/api/v1/namespaces/bank/configmaps', { metadata: { name: 'signet-bundle' }, data: { 'ca.crt': 'evil' } });
    await inStep('bank');
  });

  it("leaves alone what it finds there as somebody else's", async () => {
    await kube.apply('{apiVersion: v1, kind: Namespace, metadata: {name: foreign, labels: {signet.dev/bundle: none}}}');
    await kube.call('POST', '/api/v1/namespaces/foreign/configmaps', { metadata: { name: 'signet-bundle' }, data: { 'ca.crt': 'theirs' } });
    await namespace('foreign', { 'signet.dev/bundle': 'please' });
    await eventually(
      'the conflict',
      async () => (await metric('signet_bundle_publications_total{kind="ConfigMap",outcome="conflict"} 1')) || undefined,
    );
    assert.equal(await pemIn('foreign'), 'theirs');
    await kube.call('DELETE', copyIn('foreign'));
    await inStep('foreign');
  });

  it('goes from a namespace that is no longer selected', async () => {
    await namespace('bank', { 'signet.dev/bundle': 'none' });
    await eventually('the copy is gone', async () => (await pemIn('bank')) === undefined || undefined);
    await namespace('bank', { 'signet.dev/bundle': 'please' });
    await inStep('bank');
  });

  it('has a root that is added to the trusted ones', async () => {
    const before = await bundleOnDisk();
    const second = (await foreignCa('Second')).certificate;
    await replaceFile(roots, `${(await foreignCa('First again')).certificate}${second}`);
    await eventually('another bundle', async () => (await bundleOnDisk()) !== before || undefined);
    await inStep('shop', 'bank', 'default');
    assert.ok((await pemIn('shop'))?.includes(second.trim()));
  });

  it('is caught up with when the API server was away', async () => {
    await kube.stop();
    const before = await bundleOnDisk();
    await replaceFile(roots, (await foreignCa('Third')).certificate);
    await eventually('another bundle', async () => (await bundleOnDisk()) !== before || undefined);
    await kube.start();
    await inStep('shop', 'bank');
  });

  it('needs no more than the page gives', async () => {
    const may = async (verb: string, resource: string, name: string, group = ''): Promise<boolean> => {
      const spec = {
        user: 'system:serviceaccount:signet:signet',
        resourceAttributes: { verb, resource, name, group, namespace: 'kube-system' },
      };
      const review = { apiVersion: 'authorization.k8s.io/v1', kind: 'SubjectAccessReview', spec };
      const { body } = await kube.call('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', review);
      return (body as { status: { allowed: boolean } }).status.allowed;
    };
    assert.equal(await may('patch', 'configmaps', 'signet-bundle'), true);
    assert.equal(await may('patch', 'configmaps', 'kube-root-ca.crt'), false);
    assert.equal(await may('get', 'secrets', 'any'), false);
    assert.equal(await may('patch', 'clustertrustbundles', 'another', 'certificates.k8s.io'), false);
    assert.equal(await may('update', 'leases', 'kube-scheduler', 'coordination.k8s.io'), false);
  });
});
