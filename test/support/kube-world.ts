import type { ServiceError } from '@grpc/grpc-js';
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { startKubeApiServer } from './engines/kube-apiserver.ts';
import type { KubeApiServer, KubeServerOptions } from './engines/kube-apiserver.ts';
import { infoOf } from './grpc-caller.ts';
import type { Refusal } from './grpc-caller.ts';
import { tempFolder } from './temp.ts';
import type { Doors } from './whole-server.ts';

const rbacFile = fileURLToPath(new URL('../../deploy/kubernetes/rbac.yaml', import.meta.url));

/** A cluster with the namespace `shop`, the accounts `web` and `api` in it, two nodes, and Signet's own account as deploy/ has it. */
export interface KubeWorld extends AsyncDisposable {
  readonly kube: KubeApiServer;
  /** With Signet's own rights, by a token in `tokenFile`. */
  readonly kubeconfig: string;
  readonly tokenFile: string;
  /** A token of Signet's account, for the API server itself. */
  ownToken(): Promise<string>;
  /** Starts a pod, as far as anybody can without a kubelet. */
  pod(wish: PodWish): Promise<RunningPod>;
  /** A token that a kubelet would project into this pod. */
  token(pod: RunningPod, audiences?: readonly string[]): Promise<string>;
}

export interface PodWish {
  readonly name: string;
  readonly namespace?: string;
  readonly serviceAccount: string;
  readonly node?: 'node-1' | 'node-2';
}

export interface RunningPod {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly name: string;
  readonly uid: string;
  remove(): Promise<void>;
  setPhase(phase: 'Running' | 'Succeeded' | 'Failed'): Promise<void>;
}

const inhabitants = `
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: shop}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: api, namespace: shop}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: ztunnel, namespace: istio-system}}
---
{apiVersion: v1, kind: Node, metadata: {name: node-1}}
---
{apiVersion: v1, kind: Node, metadata: {name: node-2}}
`;

export async function rbacManifest(): Promise<string> {
  return readFile(rbacFile, 'utf8');
}

export async function kubeWorld(options: KubeServerOptions = {}): Promise<KubeWorld> {
  const [kube, folder] = await Promise.all([startKubeApiServer(options), tempFolder()]);
  await kube.apply(await rbacManifest());
  await kube.apply(inhabitants);
  const ownToken = (): Promise<string> => kube.token({ namespace: 'signet-system', serviceAccount: 'signet' });
  const tokenFile = folder.file('token');
  await writeFile(tokenFile, await ownToken());
  return {
    kube,
    tokenFile,
    kubeconfig: await kube.kubeconfig({ tokenFile }),
    ownToken,
    async pod({ name, namespace = 'shop', serviceAccount, node = 'node-1' }) {
      const path = `/api/v1/namespaces/${namespace}/pods`;
      const spec = { serviceAccountName: serviceAccount, nodeName: node, containers: [{ name: 'main', image: 'none' }] };
      const { body } = await kube.call('POST', path, { apiVersion: 'v1', kind: 'Pod', metadata: { name }, spec });
      const { uid } = z.object({ metadata: z.object({ uid: z.string() }) }).parse(body).metadata;
      return {
        namespace,
        serviceAccount,
        name,
        uid,
        async remove() {
          await kube.call('DELETE', `${path}/${name}?gracePeriodSeconds=0`);
        },
        async setPhase(phase) {
          await kube.call('PATCH', `${path}/${name}/status`, { status: { phase } }, 'application/merge-patch+json');
        },
      };
    },
    token: ({ namespace, serviceAccount, name, uid }, audiences = ['signet']) =>
      kube.token({ namespace, serviceAccount, audiences, pod: { name, uid } }),
    async [Symbol.asyncDispose]() {
      await kube[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

export function bearer(token: string, more: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
  return { authorization: `Bearer ${token}`, ...more };
}

/** What SignCertificate says to a token: the identity, or the refusal's reason. */
export async function identityBy(doors: Doors, token: string, more: Readonly<Record<string, string>> = {}): Promise<string> {
  try {
    const request = { csr: createCsr(generateKeyPair(), []) };
    return ((await doors.workload.call('SignCertificate', request, bearer(token, more))) as { readonly spiffe_id: string }).spiffe_id;
  } catch (error) {
    return `refused: ${infoOf((error as ServiceError).metadata).reason ?? String(error)}`;
  }
}

export async function refusalOf(doors: Doors, token: string, more: Readonly<Record<string, string>> = {}): Promise<Refusal> {
  return doors.workload.refused('SignCertificate', { csr: createCsr(generateKeyPair(), []) }, bearer(token, more));
}

export interface IstioWish {
  readonly token: string;
  readonly impersonate?: string;
  readonly cluster?: string;
}

/** The CreateCertificate of Istio's clients. */
export function istioRequest({
  token,
  impersonate,
  cluster,
}: IstioWish): readonly [request: object, metadata: Readonly<Record<string, string>>] {
  const fields = impersonate === undefined ? {} : { ImpersonatedIdentity: { stringValue: impersonate, string_value: impersonate } };
  const csr = pemEncode('CERTIFICATE REQUEST', createCsr(generateKeyPair(), []));
  return [{ csr, metadata: { fields } }, bearer(token, cluster === undefined ? {} : { clusterid: cluster })];
}
