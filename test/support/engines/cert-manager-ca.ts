import { randomUUID } from 'node:crypto';
import { createIntermediateCertificate, createRootCertificate } from '../../../src/x509/ca-certificate.ts';
import { createCsr } from '../../../src/x509/csr.ts';
import { localSigner } from '../../../src/x509/issuing-ca.ts';
import { generateKeyPair, privateKeyPem } from '../../../src/x509/keys.ts';
import { pemEncode } from '../../../src/x509/pem.ts';
import { eventually } from '../eventually.ts';
import type { KubeApiServer } from './kube-apiserver.ts';

/** A CA issuer of cert-manager with its Secret, and its roots in a ConfigMap. */
export interface CaIssuer {
  /** A new root: in the ConfigMap first, beside the old one, then in use. */
  rotate(): Promise<void>;
  /** Resolves once the controllers sign: they take a moment to read what there is. */
  answers(): Promise<void>;
}

const namespace = 'signet-certificates';
const hourMs = 3_600_000;

async function createCa(generation: number): Promise<{ readonly root: string; readonly chain: string; readonly key: string }> {
  const now = Math.floor(Date.now() / 1000) * 1000;
  const life = { notBefore: now - hourMs, notAfter: now + 30 * 24 * hourMs };
  const rootKey = generateKeyPair();
  const organization = 'cert-manager';
  const root = createRootCertificate({ key: rootKey, commonName: `issuer root ${String(generation)}`, organization, ...life });
  const key = generateKeyPair();
  const intermediate = await createIntermediateCertificate({
    issuer: { certificate: root, signer: localSigner(rootKey.privateKey) },
    spki: key.spki,
    commonName: `issuer ${String(generation)}`,
    organization,
    notBefore: life.notBefore,
    notAfter: now + 20 * 24 * hourMs,
    pathLength: 0,
  });
  const rootPem = pemEncode('CERTIFICATE', root);
  return { root: rootPem, chain: pemEncode('CERTIFICATE', intermediate) + rootPem, key: privateKeyPem(key.privateKey) };
}

export async function caIssuer(kube: KubeApiServer, name = 'workloads'): Promise<CaIssuer> {
  await kube.apply(`{apiVersion: v1, kind: Namespace, metadata: {name: ${namespace}}}`);
  const roots: string[] = [];

  async function trust(root: string): Promise<void> {
    roots.push(root);
    const metadata = { name: 'workload-roots', namespace };
    await kube.apply(JSON.stringify({ apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { 'ca.crt': roots.join('') } }));
  }

  async function use(ca: Awaited<ReturnType<typeof createCa>>): Promise<void> {
    const metadata = { name: `${name}-ca`, namespace };
    const stringData = { 'tls.crt': ca.chain, 'tls.key': ca.key, 'ca.crt': ca.root };
    await kube.apply(JSON.stringify({ apiVersion: 'v1', kind: 'Secret', type: 'kubernetes.io/tls', metadata, stringData }));
  }

  const first = await createCa(0);
  await trust(first.root);
  await use(first);
  await kube.apply(
    `{apiVersion: cert-manager.io/v1, kind: Issuer, metadata: {name: ${name}, namespace: ${namespace}}, spec: {ca: {secretName: ${name}-ca}}}`,
  );
  await eventually(
    'the issuer is ready',
    async () =>
      JSON.stringify((await kube.call('GET', `/apis/cert-manager.io/v1/namespaces/${namespace}/issuers/${name}`)).body).includes(
        '"status":"True"',
      ) || undefined,
    60_000,
  );
  return {
    async rotate() {
      const next = await createCa(roots.length);
      await trust(next.root);
      await use(next);
    },
    async answers() {
      const key = generateKeyPair();
      const request = Buffer.from(pemEncode('CERTIFICATE REQUEST', createCsr(key, ['spiffe://probe/probe']))).toString('base64');
      const metadata = { name: `probe-${randomUUID()}`, namespace };
      const spec = { request, issuerRef: { name, kind: 'Issuer', group: 'cert-manager.io' }, duration: '1h' };
      await kube.apply(JSON.stringify({ apiVersion: 'cert-manager.io/v1', kind: 'CertificateRequest', metadata, spec }));
      const path = `/apis/cert-manager.io/v1/namespaces/${namespace}/certificaterequests/${metadata.name}`;
      await eventually(
        'cert-manager signs',
        async () => JSON.stringify((await kube.call('GET', path)).body).includes('"certificate":') || undefined,
      );
      await kube.call('DELETE', path);
    },
  };
}
