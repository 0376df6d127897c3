import type { KubeApiServer } from './engines/kube-apiserver.ts';

const api = 'flowcontrol.apiserver.k8s.io/v1';

/**
 * From now on the API server turns this service account away with 429: a priority level of its own without a single seat
 * (https://kubernetes.io/docs/concepts/cluster-administration/flow-control/). What is returned ends that.
 */
export async function turnAway(kube: KubeApiServer, namespace: string, name: string): Promise<() => Promise<void>> {
  const limited = { nominalConcurrencyShares: 0, lendablePercent: 0, borrowingLimitPercent: 0, limitResponse: { type: 'Reject' } };
  const level = { apiVersion: api, kind: 'PriorityLevelConfiguration', metadata: { name: 'nothing' }, spec: { type: 'Limited', limited } };
  const schema = {
    apiVersion: api,
    kind: 'FlowSchema',
    metadata: { name: 'turned-away' },
    spec: {
      priorityLevelConfiguration: { name: 'nothing' },
      matchingPrecedence: 2,
      rules: [
        {
          subjects: [{ kind: 'ServiceAccount', serviceAccount: { namespace, name } }],
          resourceRules: [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'], clusterScope: true, namespaces: ['*'] }],
        },
      ],
    },
  };
  await kube.apply(JSON.stringify(level));
  await kube.apply(JSON.stringify(schema));
  return async () => {
    await kube.call('DELETE', `/apis/${api}/flowschemas/turned-away`);
  };
}
