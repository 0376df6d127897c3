import { z } from 'zod';
import type { Clock, Random } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import { createKubernetesClient } from '../../kubernetes/client.ts';
import { openClusterAccess } from '../../kubernetes/settings.ts';
import type { ClusterSettings } from '../../kubernetes/settings.ts';
import type { Authority } from '../authority.ts';
import { authorityError } from '../kubernetes/failure.ts';
import { kubernetesAuthority } from '../kubernetes/kubernetes-authority.ts';
import { openRequestBoard } from '../kubernetes/request-board.ts';
import { openRoots } from '../kubernetes/roots.ts';
import type { RootsFrom } from '../kubernetes/settings.ts';
import { csrCollection, csrSpec, judgeCsr } from './csr-object.ts';

export interface KubernetesCsrOptions {
  readonly name: string;
  readonly cluster: ClusterSettings;
  readonly signerName: string;
  readonly rootsFrom: RootsFrom;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/**
 * A CA that is asked by CertificateSigningRequests (certificates.k8s.io/v1) for a signer name of its own. Who approves them
 * and who signs is somebody else's. Throws CONFIG_INVALID (the kubeconfig), AUTHORITY_MISCONFIGURED or AUTHORITY_REFUSED.
 */
export async function openKubernetesCsrAuthority(options: KubernetesCsrOptions): Promise<Authority> {
  const { name, signerName, clock, random, log } = options;
  const client = createKubernetesClient(await openClusterAccess(options.cluster));
  try {
    const roots = await openRoots({ backend: name, from: options.rootsFrom, client, clock, random, log });
    const kind = {
      backend: name,
      apiVersion: 'certificates.k8s.io/v1',
      kind: 'CertificateSigningRequest',
      collection: csrCollection,
      judge: judgeCsr,
    };
    return kubernetesAuthority({
      name,
      type: 'kubernetes-csr',
      client,
      board: openRequestBoard(kind, { client, clock, random, log }),
      roots,
      clock,
      spec: (request, now) => csrSpec(signerName, request, now),
      overlong: `the signer ${signerName} must honour spec.expirationSeconds, and sign within 10 s`,
      async reachable(signal) {
        const query = { limit: '1', fieldSelector: `spec.signerName=${signerName}` };
        const listed = await client.ask({ method: 'GET', path: csrCollection, query, answer: z.unknown() }, signal);
        if (!listed.ok) return { canSign: false, detail: authorityError(name, listed.failure).message };
        return { canSign: true, detail: `the API server takes requests for ${signerName}` };
      },
    });
  } catch (error) {
    await client.close();
    throw error;
  }
}
