import type { OnNode, PodsOnNode } from '../api/impersonation.ts';
import { SignetError } from '../base/errors.ts';
import type { Pod } from '../identity/caller.ts';
import type { ServiceAccount } from '../identity/token-issuer.ts';
import type { ApiAnswer } from '../kubernetes/answer.ts';
import type { KubernetesClient } from '../kubernetes/client.ts';
import { getPod, isAlive, podsOnNode } from '../kubernetes/pods.ts';
import type { SpiffeId } from '../spiffe/id.ts';

/**
 * Asks the cluster's API server each time: what it says is the evidence for one certificate, and as fresh as that. A list or
 * get without a resource version is answered with the newest state
 * (https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list).
 */
export function createPodsOnNode(client: KubernetesClient, accountOf: (identity: SpiffeId) => ServiceAccount | undefined): PodsOnNode {
  async function nodeOf(caller: Pod, signal: AbortSignal): Promise<OnNode | string> {
    const answer = await getPod(client, caller.namespace, caller.name, signal);
    if (!answer.ok && answer.failure.kind === 'not-found') return not('the pod of the node proxy is gone');
    const { metadata, spec, status } = told(answer);
    if (metadata.uid !== caller.uid) return not('the pod of the node proxy has another uid now');
    if (!isAlive({ metadata, spec, status })) return not('the pod of the node proxy has ended');
    return spec.nodeName ?? not('the pod of the node proxy is on no node');
  }

  return {
    async check(caller, identity, signal) {
      const account = accountOf(identity);
      if (!account) return not("the issuer's path does not say which service account has the identity asked for");
      const node = await nodeOf(caller, signal);
      if (typeof node !== 'string') return node;
      const { namespace, name: serviceAccount } = account;
      const pods = told(await podsOnNode(client, { namespace, serviceAccount, node }, signal));
      // The selector has said so; an API server (or what stands in front of it) that ignored it must not be believed.
      const there = pods.some((pod) => isAlive(pod) && pod.spec.nodeName === node && pod.spec.serviceAccountName === serviceAccount);
      return there ? { proved: true } : not(`no pod of ${namespace}/${serviceAccount} runs on ${node}`);
    },
  };
}

function not(why: string): OnNode {
  return { proved: false, why };
}

function told<T>(answer: ApiAnswer<T>): T {
  if (answer.ok) return answer.value;
  throw new SignetError('IDENTITY_SOURCE_UNAVAILABLE', answer.failure.message, { cause: answer.failure.cause });
}
