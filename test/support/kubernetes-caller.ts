import { join } from 'node:path';
import type { KubeApiServer } from './engines/kube-apiserver.ts';
import { replaceFile } from './temp.ts';
import type { TempFolder } from './temp.ts';

/** A service account with a token in a file, as the kubelet projects it: bound to a pod, whose end is the token's. */
export interface ProjectedToken {
  readonly kubeconfig: string;
  /** The kubelet's rotation, and the end of what was there before. */
  rotate(): Promise<void>;
}

export async function projectToken(
  kube: KubeApiServer,
  folder: TempFolder,
  namespace: string,
  serviceAccount: string,
): Promise<ProjectedToken> {
  const file = join(folder.path, `${namespace}-${serviceAccount}.token`);
  await kube.apply(`{apiVersion: v1, kind: Namespace, metadata: {name: ${namespace}}}`);
  await kube.apply(`{apiVersion: v1, kind: ServiceAccount, metadata: {name: ${serviceAccount}, namespace: ${namespace}}}`);
  let pods = 0;
  let pod: string | undefined;

  async function project(): Promise<void> {
    const name = `${serviceAccount}-${String(pods++)}`;
    const spec = { serviceAccountName: serviceAccount, automountServiceAccountToken: false, containers: [{ name: 'c', image: 'i' }] };
    const made = await kube.call('POST', `/api/v1/namespaces/${namespace}/pods`, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name },
      spec,
    });
    if (made.status !== 201) throw new Error(`pod ${name}: ${JSON.stringify(made.body)}`);
    const { uid } = (made.body as { metadata: { uid: string } }).metadata;
    await replaceFile(file, await kube.token({ namespace, serviceAccount, pod: { name, uid } }));
    const before = pod;
    pod = name;
    if (before !== undefined) await kube.call('DELETE', `/api/v1/namespaces/${namespace}/pods/${before}?gracePeriodSeconds=0`);
  }

  await project();
  return { kubeconfig: await kube.kubeconfig({ tokenFile: file }), rotate: project };
}
