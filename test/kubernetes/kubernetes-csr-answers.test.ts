import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import type { Authority } from '../../src/ca/authority.ts';
import { openKubernetesCsrAuthority } from '../../src/ca/kubernetes-csr/kubernetes-csr-authority.ts';
import type { RootsFrom } from '../../src/ca/kubernetes/settings.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { signingRequest } from '../support/authority-suite.ts';
import { startCsrSigner } from '../support/engines/csr-signer.ts';
import type { CsrSigner } from '../support/engines/csr-signer.ts';
import { startKubeApiServer } from '../support/engines/kube-apiserver.ts';
import type { KubeApiServer } from '../support/engines/kube-apiserver.ts';
import { eventually } from '../support/eventually.ts';
import { projectToken } from '../support/kubernetes-caller.ts';
import { pagePermissions } from '../support/page-text.ts';
import { signsByPage } from '../support/signs-by-page.ts';
import { silentLog } from '../support/silent-log.ts';
import { replaceFile, tempFolder } from '../support/temp.ts';
import type { TempFolder } from '../support/temp.ts';

const page = 'ca-kubernetes-csr.md';
const trustDomain = parseTrustDomain('example.org');
const never = new AbortController().signal;
const collection = '/apis/certificates.k8s.io/v1/certificatesigningrequests';

let kube: KubeApiServer;
let signer: CsrSigner;
let folder: TempFolder;
let kubeconfig: string;
let authority: Authority;

const open = (rootsFrom: RootsFrom, name = 'cluster') =>
  openKubernetesCsrAuthority({
    name,
    cluster: { kubeconfig },
    signerName: signer.signerName,
    rootsFrom,
    clock: systemClock,
    random: Math.random,
    log: silentLog,
  });

async function requests(): Promise<readonly { readonly metadata: { readonly name: string } }[]> {
  return ((await kube.call('GET', collection)).body as { items: { metadata: { name: string } }[] }).items;
}

async function refused(asked = signingRequest(trustDomain), signal: AbortSignal = never): Promise<{ code: string; message: string }> {
  try {
    await authority.sign(asked, signal);
  } catch (error) {
    return error as { code: string; message: string };
  }
  assert.fail('it was signed');
}

describe('a signer of CertificateSigningRequests', () => {
  before(async () => {
    folder = await tempFolder();
    kube = await startKubeApiServer();
    signer = await startCsrSigner(kube);
    await writeFile(folder.file('roots.pem'), signer.roots());
    ({ kubeconfig } = await projectToken(kube, folder, 'signet', 'signet'));
    await kube.apply(await pagePermissions(page));
    authority = await open({ file: folder.file('roots.pem') });
  });
  after(async () => {
    await authority.close();
    await signer[Symbol.asyncDispose]();
    await kube[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  it("has certificates signed for workloads by the page's configuration", async () => {
    await signsByPage(page, { kubeconfig, rootsFrom: { file: folder.file('roots.pem') } });
  });

  it('is not asked by a request that lacks the name: what it signs would have none', async () => {
    const key = generateKeyPair();
    const { code, message } = await refused(signingRequest(trustDomain, { csr: () => createCsr(key, []) }));
    assert.equal(code, 'AUTHORITY_REFUSED');
    assert.match(message, /with the one URI SAN spiffe:\/\/example.org\/ns\/shop\/sa\/web/);
  });

  it('that denies is quoted', async () => {
    signer.conduct = 'deny';
    const { code, message } = await refused();
    assert.equal(code, 'AUTHORITY_REFUSED');
    assert.match(message, /denied \(Test: the test says deny\)/);
  });

  it('that approves and then fails is quoted', async () => {
    signer.conduct = 'fail';
    const { code, message } = await refused();
    assert.equal(code, 'AUTHORITY_REFUSED');
    assert.match(message, /could not issue.*the test says fail/);
  });

  it('that takes no notice of the life asked for is found out, and told what to do', async () => {
    signer.conduct = 'longer';
    const { code, message } = await refused();
    assert.equal(code, 'AUTHORITY_MISBEHAVED');
    assert.match(message, /longer than was asked for.*must honour spec.expirationSeconds/);
  });

  it('is not asked for what Kubernetes can not be asked for', async () => {
    signer.conduct = 'sign';
    const notBefore = Math.floor(Date.now() / 1000) * 1000 - 60_000;
    const { code, message } = await refused(signingRequest(trustDomain, { notBefore, notAfter: notBefore + 60_000 + 300_000 }));
    assert.equal(code, 'AUTHORITY_REFUSED');
    assert.match(message, /less than 10m.*4m\d\ds/);
  });

  it('that never answers costs its caller no more than the deadline, and shows in health', async () => {
    signer.conduct = 'approve-only';
    assert.equal((await authority.health(never)).canSign, true);
    const { code } = await refused(undefined, AbortSignal.timeout(4000));
    assert.equal(code, 'DEADLINE_EXCEEDED');
    const { canSign, detail } = await authority.health(never);
    assert.equal(canSign, false);
    assert.match(detail, /no request was answered for \ds \(the last one: approved, but not signed\)/);
    signer.conduct = 'sign';
    await authority.sign(signingRequest(trustDomain), never);
    assert.equal((await authority.health(never)).canSign, true);
  });

  it('loses what somebody else deletes', async () => {
    signer.conduct = 'approve-only';
    const signing = refused();
    const [{ metadata }] = await eventually('the request', async () => {
      const [first] = await requests();
      return first && ([first] as const);
    });
    await kube.call('DELETE', `${collection}/${metadata.name}`);
    const { code, message } = await signing;
    assert.equal(code, 'AUTHORITY_UNAVAILABLE');
    assert.match(message, /somebody deleted/);
    signer.conduct = 'sign';
  });

  it('finds nothing left of us, whatever came of it', async () => {
    const stop = new AbortController();
    const signing = Promise.allSettled(Array.from({ length: 20 }, () => authority.sign(signingRequest(trustDomain), stop.signal)));
    setTimeout(() => {
      stop.abort();
    }, 20);
    await signing;
    await eventually('no request is left', async () => (await requests()).length === 0 || undefined);
  });

  it('has its roots taken from a file that is read again, and the last good ones kept', async () => {
    let told = 0;
    const stop = authority.onChange(() => told++);
    const next = await signer.newRoot();
    await replaceFile(folder.file('roots.pem'), signer.roots() + next.pem);
    await eventually('the new root', async () => (await authority.anchors(never)).length === 2 || undefined);
    assert.equal(told, 1);
    await replaceFile(folder.file('roots.pem'), 'nothing');
    await new Promise((resolve) => setTimeout(resolve, 2500));
    assert.equal((await authority.anchors(never)).length, 2);
    assert.equal(told, 1);
    stop();
  });

  it('whose roots are nowhere is a mistake of ours, told at the start', async () => {
    await assert.rejects(open({ file: folder.file('none.pem') }), { code: 'AUTHORITY_MISCONFIGURED', message: /none\.pem/ });
    await assert.rejects(open({ clusterTrustBundle: 'pki.example.org:workloads:main' }), {
      code: 'AUTHORITY_MISCONFIGURED',
      message: /ClusterTrustBundle pki.example.org:workloads:main: it is not there/,
    });
    await assert.rejects(open({ configMap: { namespace: 'pki', name: 'roots', key: 'ca.crt' } }), {
      code: 'AUTHORITY_REFUSED',
      message: /RBAC/,
    });
  });

  it('is approved by others: the permissions of the page suffice for nothing else', async () => {
    signer.conduct = 'approve-only';
    const stop = new AbortController();
    const signing = authority.sign(signingRequest(trustDomain), stop.signal).catch(() => undefined);
    const may = async (verb: string, resource: string, subresource = '', group = 'certificates.k8s.io'): Promise<boolean> => {
      const spec = {
        user: 'system:serviceaccount:signet:signet',
        resourceAttributes: { verb, resource, subresource, group, namespace: 'kube-system' },
      };
      const review = { apiVersion: 'authorization.k8s.io/v1', kind: 'SubjectAccessReview', spec };
      const { body } = await kube.call('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', review);
      return (body as { status: { allowed: boolean } }).status.allowed;
    };
    assert.equal(await may('create', 'certificatesigningrequests'), true);
    assert.equal(await may('update', 'certificatesigningrequests', 'approval'), false);
    assert.equal(await may('update', 'certificatesigningrequests', 'status'), false);
    assert.equal(await may('approve', 'signers'), false);
    assert.equal(await may('list', 'clustertrustbundles'), false);
    assert.equal(await may('get', 'secrets', '', ''), false);
    assert.equal(await may('get', 'configmaps', '', ''), false);
    stop.abort();
    await signing;
    signer.conduct = 'sign';
  });
});
