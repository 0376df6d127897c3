import type { Clock, Random } from '../base/clock.ts';
import { deadlineSignal } from '../base/deadline.ts';
import type { DeadlineHeap } from '../base/deadline-heap.ts';
import type { Log } from '../base/log.ts';
import { createLedger } from '../ledger/ledger.ts';
import type { AgentMetrics } from '../observe/agent-metrics.ts';
import { defaultSdsLimits } from '../sds/limits.ts';
import { createSdsService } from '../sds/service.ts';
import type { SpiffeId, TrustDomain } from '../spiffe/id.ts';
import { createWorkloadApi } from '../workload-api/service.ts';
import type { WorkloadConfig } from './config/schema.ts';
import { createJwtBundles } from './jwt-bundles.ts';
import { createJwtSvidCache } from './jwt-svids.ts';
import type { SealedCache } from './sealed-cache.ts';
import { standingOf } from './subscribers.ts';
import { createTrustStream } from './trust-stream.ts';
import type { TrustStream } from './trust-stream.ts';
import type { Upstream } from './upstream.ts';
import type { Workload } from './workload.ts';
import { openWorkloadSocket } from './workload-socket.ts';
import { workloadSource } from './workload-source.ts';
import { trustFeedKey, trustVersionOf, workloadSecrets } from './workload-secrets.ts';

/** One workload with all that serves it. */
export interface ServedWorkload {
  readonly workload: Workload;
  readonly trust: TrustStream;
  readonly socket: string;
  /** Once: asks the servers for what there is none of, and follows changes of the rest. */
  start(): void;
  streams(): Readonly<Record<'sotw' | 'delta', number>>;
  close(graceMs: number): Promise<void>;
}

/** Local Envoys have no reason to come back often. */
const maxStreamAgeMs = 86_400_000;

/** Opens the workload's socket: whoever finds it is served what there is. Throws CONFIG_INVALID. */
export async function serveWorkload(parts: {
  readonly workload: Workload;
  readonly config: WorkloadConfig;
  readonly where: string;
  readonly trustDomain: TrustDomain;
  readonly spiffeId: SpiffeId | undefined;
  readonly upstream: Upstream;
  readonly cache: SealedCache | undefined;
  readonly metrics: AgentMetrics;
  readonly clock: Clock;
  readonly heap: DeadlineHeap;
  readonly random: Random;
  readonly log: Log;
}): Promise<ServedWorkload> {
  const { workload, config, trustDomain, metrics, clock, heap, random, log } = parts;
  // Nobody asks an agent for its evidence later: what its subscribers took goes upstream as acknowledgements.
  const ledger = createLedger({ acknowledge: () => Promise.resolve(), clock, log });
  const { source, admission } = workloadSecrets({ name: config.name, trustDomain, spiffeId: parts.spiffeId, feed: workload.feed, clock });
  const sds = createSdsService({
    source,
    admission,
    deliveries: {
      opened: ledger.opened,
      sent(stream, secret) {
        metrics.sent(secret.type);
        ledger.sent(stream, secret);
      },
      acknowledged: ledger.acknowledged,
      rejected(stream, secret, nack) {
        metrics.rejected(nack.class);
        ledger.rejected(stream, secret, nack);
      },
      closed: ledger.closed,
    },
    clock,
    heap,
    random,
    log,
    limits: { ...defaultSdsLimits, maxStreamAgeMs, maxStreamsPerIdentity: 1000 },
  });
  const { upstream, cache } = parts;
  const { withCredential } = workload;
  const jwtBundles = createJwtBundles({
    workload: config.name,
    upstream,
    withCredential,
    initial: await cache?.loadJwtBundles(config.name),
    keep: (bundles) => cache?.saveJwtBundles(config.name, bundles),
    clock,
    heap,
    random,
    log,
  });
  const jwtSvids = createJwtSvidCache({ upstream, withCredential, clock });
  const workloadApi = createWorkloadApi({ source: workloadSource({ workload, jwtSvids, jwtBundles, clock }), clock, log });
  // Everything that the workload speaks: SDS, and the SPIFFE Workload API.
  const listener = await openWorkloadSocket({ workload: config, where: parts.where, services: [sds, workloadApi] });
  const trust = createTrustStream({
    workload: config.name,
    upstream,
    withCredential,
    take: workload.takeTrust,
    standing() {
      const held = workload.feed.current()?.anchors.get(trustDomain);
      return held ? standingOf(ledger, trustFeedKey, trustVersionOf(held)) : { kind: 'nobody' };
    },
    onStanding: ledger.onChange,
    clock,
    heap,
    random,
    log,
  });
  return {
    workload,
    trust,
    socket: listener.path,
    start() {
      if (!workload.feed.current()) void workload.renew();
      trust.start();
      jwtBundles.start();
    },
    streams() {
      const count = { sotw: 0, delta: 0 };
      for (const { api } of ledger.streams()) count[api]++;
      return count;
    },
    async close(graceMs) {
      workload.close();
      trust.close();
      jwtBundles.close();
      const grace = deadlineSignal(graceMs);
      await Promise.all([listener.close(graceMs), sds.drain(grace), workloadApi.drain(grace)]);
      await ledger.close();
    },
  };
}
