import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import type { Clock, Random } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { PublishBundle } from '../kubernetes/publish-settings.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { TrustBundle } from '../trust/trust-bundle.ts';
import type { Config } from './config/schema.ts';

export interface BundlePublication {
  close(): Promise<void>;
}

export interface PublicationParts {
  readonly config: Config;
  readonly trust: TrustBundle;
  readonly metrics: Pick<Metrics, 'bundlePublication' | 'publishing'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** Publishes the trust bundle into the cluster, if that is configured, while this server is the one of all that does. */
export async function publishIntoCluster(parts: PublicationParts): Promise<BundlePublication> {
  const settings = parts.config.kubernetes.publishBundle;
  return settings ? start(settings, parts) : { close: () => Promise.resolve() };
}

async function start(settings: PublishBundle, parts: PublicationParts): Promise<BundlePublication> {
  const { trust, metrics, clock, random, log } = parts;
  // Most servers publish nowhere, and are spared the HTTP client.
  const [{ createKubernetesClient }, { openClusterAccess }, { ownNamespace }, { takePart }, { publishBundle }] = await Promise.all([
    import('../kubernetes/client.ts'),
    import('../kubernetes/settings.ts'),
    import('../kubernetes/in-cluster.ts'),
    import('../kubernetes/leadership.ts'),
    import('../kubernetes/bundle-publisher.ts'),
  ]);
  const namespace = settings.lease.namespace ?? (await ownNamespace());
  if (namespace === undefined) {
    throw new SignetError('CONFIG_INVALID', 'kubernetes.publishBundle.lease.namespace: is required outside of a pod: where the Lease is');
  }
  const client = createKubernetesClient(await openClusterAccess(settings));
  const closing = new AbortController();
  metrics.publishing(false);
  const publishing = takePart(
    {
      client,
      namespace,
      name: settings.lease.name,
      self: `${hostname()}_${randomBytes(8).toString('hex')}`,
      clock,
      monotonic: { now: () => performance.now() },
      random,
      log,
      changed: metrics.publishing,
      lead: (signal) =>
        publishBundle(
          {
            client,
            settings: { trustDomain: parts.config.trustDomain, ...settings },
            feed: {
              current() {
                const { version, anchors } = trust.current();
                return { version, pem: anchors.pem };
              },
              subscribe: trust.subscribe,
              refresh: trust.refresh,
            },
            clock,
            random,
            log,
            observe: metrics.bundlePublication,
          },
          signal,
        ),
    },
    closing.signal,
  );
  publishing.catch((error: unknown) => {
    log.error({ err: error }, 'publishing the trust bundle has stopped');
  });
  return {
    async close() {
      closing.abort(new SignetError('CANCELLED', 'the server is stopping'));
      await publishing.catch(() => undefined);
      await client.close();
    },
  };
}
