import { z } from 'zod';
import type { Clock, Random } from '../../base/clock.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { KubernetesClient } from '../../kubernetes/client.ts';
import { createKubernetesClient, segment } from '../../kubernetes/client.ts';
import { openClusterAccess } from '../../kubernetes/settings.ts';
import type { ClusterSettings } from '../../kubernetes/settings.ts';
import type { Authority, AuthorityHealth } from '../authority.ts';
import { authorityError } from '../kubernetes/failure.ts';
import { kubernetesAuthority } from '../kubernetes/kubernetes-authority.ts';
import { openRequestBoard } from '../kubernetes/request-board.ts';
import { openRoots } from '../kubernetes/roots.ts';
import type { RootsFrom } from '../kubernetes/settings.ts';
import { condition, saidBy } from '../kubernetes/verdict.ts';
import { judgeRequest, requestSpec, requestsIn } from './request-object.ts';
import type { IssuerRef } from './request-object.ts';

export interface CertManagerOptions {
  readonly name: string;
  readonly cluster: ClusterSettings;
  readonly namespace: string;
  readonly issuer: IssuerRef;
  readonly rootsFrom: RootsFrom;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

const issuerObject = z.object({ status: z.object({ conditions: z.array(condition).max(50).optional() }).optional() });

/**
 * A CA that cert-manager asks for us, by CertificateRequests (cert-manager.io/v1). Throws CONFIG_INVALID (the kubeconfig),
 * AUTHORITY_MISCONFIGURED or AUTHORITY_REFUSED.
 */
export async function openCertManagerAuthority(options: CertManagerOptions): Promise<Authority> {
  const { name, namespace, issuer, clock, random, log } = options;
  const client = createKubernetesClient(await openClusterAccess(options.cluster));
  try {
    const roots = await openRoots({ backend: name, from: options.rootsFrom, client, clock, random, log });
    const kind = {
      backend: name,
      apiVersion: 'cert-manager.io/v1',
      kind: 'CertificateRequest',
      collection: requestsIn(namespace),
      judge: judgeRequest,
      hopeless: (signal: AbortSignal) => missingIssuer(options, client, signal),
    };
    return kubernetesAuthority({
      name,
      type: 'cert-manager',
      client,
      board: openRequestBoard(kind, { client, clock, random, log }),
      roots,
      clock,
      spec: (request, now) => requestSpec(issuer, request, now),
      overlong: 'the issuer must honour spec.duration, and sign within 10 s',
      reachable: (signal) => issuerHealth(options, client, signal),
    });
  } catch (error) {
    await client.close();
    throw error;
  }
}

/** Undefined for an external issuer: how the collection of its kind is called is not known. */
function issuerPath({ namespace, issuer: { name, kind, group } }: CertManagerOptions): string | undefined {
  if (group !== 'cert-manager.io') return undefined;
  if (kind === 'ClusterIssuer') return `/apis/cert-manager.io/v1/clusterissuers/${segment(name)}`;
  return `/apis/cert-manager.io/v1/namespaces/${namespace}/issuers/${segment(name)}`;
}

/** cert-manager waits for an issuer that isn't there; we had better say so. */
async function missingIssuer(options: CertManagerOptions, client: KubernetesClient, signal: AbortSignal): Promise<SignetError | undefined> {
  const path = issuerPath(options);
  if (path === undefined) return undefined;
  const asked = await client.ask({ method: 'GET', path, answer: issuerObject }, signal);
  const { kind, name } = options.issuer;
  if (asked.ok || asked.failure.kind !== 'not-found') return undefined;
  return new SignetError(
    'AUTHORITY_MISCONFIGURED',
    `CA backend ${options.name}: there is no ${kind} ${name} (its namespace would be ${options.namespace})`,
  );
}

async function issuerHealth(options: CertManagerOptions, client: KubernetesClient, signal: AbortSignal): Promise<AuthorityHealth> {
  const path = issuerPath(options);
  const { kind, name } = options.issuer;
  if (path === undefined) {
    const listed = await client.ask(
      { method: 'GET', path: requestsIn(options.namespace), query: { limit: '1' }, answer: z.unknown() },
      signal,
    );
    if (!listed.ok) return { canSign: false, detail: authorityError(options.name, listed.failure).message };
    return { canSign: true, detail: `the API server takes requests for ${kind} ${name}` };
  }
  const asked = await client.ask({ method: 'GET', path, answer: issuerObject }, signal);
  if (!asked.ok) return { canSign: false, detail: authorityError(options.name, asked.failure).message };
  const ready = asked.value.status?.conditions?.find(({ type }) => type === 'Ready');
  if (ready?.status !== 'True')
    return { canSign: false, detail: `${kind} ${name} is not ready (${ready ? saidBy(ready) : 'nothing is said'})` };
  return { canSign: true, detail: `${kind} ${name} is ready` };
}
