import { z } from 'zod';
import type { ApiAnswer } from './answer.ts';
import type { KubernetesClient } from './client.ts';

/** As RBAC names it. */
export interface Permission {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
}

const answerSchema = z.object({ status: z.object({ allowed: z.boolean() }) });

/** Those of the permissions that we don't have, in every namespace (SelfSubjectAccessReview; everybody may ask it). */
export async function missingPermissions(
  client: KubernetesClient,
  needed: readonly Permission[],
  signal: AbortSignal,
): Promise<ApiAnswer<readonly Permission[]>> {
  const missing: Permission[] = [];
  for (const permission of needed) {
    const spec = { resourceAttributes: permission };
    const body = { apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectAccessReview', spec };
    const path = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';
    const answer = await client.ask({ method: 'POST', path, body, answer: answerSchema }, signal);
    if (!answer.ok) return answer;
    if (!answer.value.status.allowed) missing.push(permission);
  }
  return { ok: true, value: missing };
}
