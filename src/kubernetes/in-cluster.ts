import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { SignetError } from '../base/errors.ts';
import { readSmallFile } from '../base/small-file.ts';
import type { ClusterAccess } from './cluster-access.ts';

/** https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/#directly-accessing-the-rest-api */
const accountFolder = '/var/run/secrets/kubernetes.io/serviceaccount';

/** The pod's own service account. Throws CONFIG_INVALID outside of a pod. */
export function inClusterAccess(env: NodeJS.ProcessEnv, folder = accountFolder): ClusterAccess {
  const [host, port] = [env['KUBERNETES_SERVICE_HOST'], env['KUBERNETES_SERVICE_PORT'] ?? '443'];
  const server = host === undefined ? null : URL.parse(`https://${isIPv6(host) ? `[${host}]` : host}:${port}`);
  if (!server) {
    throw new SignetError(
      'CONFIG_INVALID',
      'no kubeconfig is set, and this is no pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT name no API server',
    );
  }
  return {
    server,
    serverName: undefined,
    ca: { file: join(folder, 'ca.crt') },
    credential: { kind: 'token', token: { file: join(folder, 'token') } },
  };
}

/** The namespace of the pod that this is; undefined outside of one. */
export async function ownNamespace(folder = accountFolder): Promise<string | undefined> {
  const content = await readSmallFile(join(folder, 'namespace'), 1024).catch(() => undefined);
  const name = content?.toString('utf8').trim();
  return name === '' ? undefined : name;
}
