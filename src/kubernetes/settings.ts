import { z } from 'zod';
import { path } from '../config/fields.ts';
import type { ClusterAccess } from './cluster-access.ts';
import { inClusterAccess } from './in-cluster.ts';
import { readKubeconfig } from './kubeconfig.ts';

/** How a section of the configuration names a cluster. Spread into the sections that have more to say. */
export const clusterFields = {
  kubeconfig: path()
    .optional()
    .describe(
      "A kubeconfig file with a token, a tokenFile or a client certificate; `exec` plugins are refused. Default: the service account of Signet's own pod.",
    ),
  context: z.string().min(1).max(253).optional().describe("The kubeconfig's context. Default: its `current-context`."),
};

export interface ClusterSettings {
  readonly kubeconfig?: string | undefined;
  readonly context?: string | undefined;
}

/** Throws CONFIG_INVALID, saying what to set. */
export async function openClusterAccess(settings: ClusterSettings, env: NodeJS.ProcessEnv = process.env): Promise<ClusterAccess> {
  return settings.kubeconfig === undefined ? inClusterAccess(env) : readKubeconfig(settings.kubeconfig, settings.context);
}
