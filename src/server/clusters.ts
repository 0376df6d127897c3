import { setTimeout as sleep } from 'node:timers/promises';
import { backoffMs } from '../base/backoff.ts';
import type { Random } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ApiFailureKind } from '../kubernetes/answer.ts';
import type { KubernetesClient } from '../kubernetes/client.ts';
import type { Permission } from '../kubernetes/permissions.ts';
import type { Config, IssuerConfig } from './config/schema.ts';

/** The Kubernetes clusters that issuers are of, by the issuer's id. */
export interface Clusters {
  readonly clients: ReadonlyMap<string, KubernetesClient>;
  close(): Promise<void>;
}

export interface ClusterParts {
  readonly config: Config;
  readonly log: Log;
  readonly random: Random;
}

const reviews: Permission = { verb: 'create', group: 'authentication.k8s.io', resource: 'tokenreviews' };
const pods: readonly Permission[] = [
  { verb: 'get', group: '', resource: 'pods' },
  { verb: 'list', group: '', resource: 'pods' },
];
const triesAtStart = 3;
const betweenTriesMs = 1000;
const retry = { baseMs: 2000, maxMs: 60_000 };
/** The next try may end otherwise. Everything else is an answer. */
const transient: ReadonlySet<ApiFailureKind> = new Set<ApiFailureKind>(['away', 'throttled', 'malformed']);

/**
 * Opens them, and proves that we may ask them what we will. Throws CONFIG_INVALID where we may not: better now than at the
 * first token. An API server that is away is asked again in the background, and does not keep the server from starting.
 */
export async function openClusters({ config, log, random }: ClusterParts): Promise<Clusters> {
  const clients = new Map<string, KubernetesClient>();
  const closed = new AbortController();
  const close = async (): Promise<void> => {
    closed.abort();
    await Promise.all([...clients.values()].map((client) => client.close()));
  };

  /** Throws CONFIG_INVALID at a no; false where there is no answer. */
  async function prove(issuer: IssuerConfig, client: KubernetesClient, needed: readonly Permission[]): Promise<boolean> {
    const { missingPermissions } = await import('../kubernetes/permissions.ts');
    const answer = await missingPermissions(client, needed, closed.signal);
    if (answer.ok && answer.value.length === 0) return true;
    if (answer.ok) throw mayNot(issuer.id, client, answer.value.map(inWords).join(', '));
    if (!transient.has(answer.failure.kind)) throw mayNot(issuer.id, client, answer.failure.message);
    log.warn(
      { issuer: issuer.id, err: answer.failure.cause },
      `${answer.failure.message}; tokens of this issuer can not be reviewed until it answers`,
    );
    return false;
  }

  /** One no may be of an API server that has only just started and knows no roles yet. */
  async function proveAtStart(issuer: IssuerConfig, client: KubernetesClient, needed: readonly Permission[]): Promise<boolean> {
    for (let tries = 1; ; tries++) {
      try {
        return await prove(issuer, client, needed);
      } catch (error) {
        if (tries === triesAtStart) throw error;
        await sleep(betweenTriesMs);
      }
    }
  }

  async function proveLater(issuer: IssuerConfig, client: KubernetesClient, needed: readonly Permission[]): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      await sleep(backoffMs(attempt, retry, random), undefined, { signal: closed.signal, ref: false });
      const proved = await prove(issuer, client, needed).catch((error: unknown) => {
        if (closed.signal.aborted) throw error;
        log.error({ issuer: issuer.id }, SignetError.from(error).message);
        return false;
      });
      if (!proved) continue;
      log.info({ issuer: issuer.id, server: client.server }, 'the API server answers, and Signet may ask it');
      return;
    }
  }

  try {
    for (const issuer of config.identity.issuers) {
      const access = issuer.tokenReview ?? issuer.pods;
      if (!access) continue;
      // An HTTP client takes a while to load, and many servers need none.
      const [{ createKubernetesClient }, { openClusterAccess }] = await Promise.all([
        import('../kubernetes/client.ts'),
        import('../kubernetes/settings.ts'),
      ]);
      const client = createKubernetesClient(await openClusterAccess(access));
      clients.set(issuer.id, client);
      const needed = [...(issuer.tokenReview ? [reviews] : []), ...(config.policy.trustedNodeAccounts.length > 0 ? pods : [])];
      if (await proveAtStart(issuer, client, needed)) continue;
      proveLater(issuer, client, needed).catch((error: unknown) => {
        if (!closed.signal.aborted) log.error({ issuer: issuer.id, err: error }, SignetError.from(error).message);
      });
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { clients, close };
}

function inWords({ verb, group, resource }: Permission): string {
  return `${verb} ${group === '' ? resource : `${resource}.${group}`}`;
}

function mayNot(issuer: string, client: KubernetesClient, what: string): SignetError {
  return new SignetError(
    'CONFIG_INVALID',
    `issuer "${issuer}": ${client.server} does not let Signet do what it needs (${what}). Grant it as deploy/kubernetes/rbac.yaml does, or give another credential`,
  );
}
