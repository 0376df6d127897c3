import { z } from 'zod';
import type { ApiAnswer } from './answer.ts';
import { segment } from './client.ts';
import type { KubernetesClient } from './client.ts';

/** A pod as far as its place in the cluster goes. */
export interface PlacedPod {
  readonly metadata: { readonly name: string; readonly uid: string };
  /** nodeName is missing until it is scheduled. */
  readonly spec: { readonly nodeName?: string | undefined; readonly serviceAccountName?: string | undefined };
  readonly status?: { readonly phase?: string | undefined } | undefined;
}

const podSchema: z.ZodType<PlacedPod> = z.object({
  metadata: z.object({ name: z.string(), uid: z.string() }),
  spec: z.object({ nodeName: z.string().optional(), serviceAccountName: z.string().optional() }),
  status: z.object({ phase: z.string().optional() }).optional(),
});
const listSchema = z.object({ items: z.array(podSchema).nullish() });
/** A node has 110 pods unless told otherwise, and one may have much in it. */
const longestList = 16 * 1024 * 1024;

export async function getPod(
  client: KubernetesClient,
  namespace: string,
  name: string,
  signal: AbortSignal,
): Promise<ApiAnswer<PlacedPod>> {
  const path = `/api/v1/namespaces/${segment(namespace)}/pods/${segment(name)}`;
  return client.ask({ method: 'GET', path, answer: podSchema, longestAnswer: 4 * 1024 * 1024 }, signal);
}

/** The pods of a service account on one node. */
export async function podsOnNode(
  client: KubernetesClient,
  where: { readonly namespace: string; readonly serviceAccount: string; readonly node: string },
  signal: AbortSignal,
): Promise<ApiAnswer<readonly PlacedPod[]>> {
  const query = { fieldSelector: `spec.nodeName=${where.node},spec.serviceAccountName=${where.serviceAccount}` };
  const path = `/api/v1/namespaces/${segment(where.namespace)}/pods`;
  const answer = await client.ask({ method: 'GET', path, query, answer: listSchema, longestAnswer: longestList }, signal);
  return answer.ok ? { ok: true, value: answer.value.items ?? [] } : answer;
}

/** Whether its containers are there or about to be: the node's proxy asks before they start. */
export function isAlive(pod: PlacedPod): boolean {
  return pod.status?.phase === 'Running' || pod.status?.phase === 'Pending';
}
