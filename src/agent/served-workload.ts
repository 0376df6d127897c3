import type { Clock, Random } from '../base/clock.ts';
import { deadlineSignal } from '../base/deadline.ts';
import type { DeadlineHeap } from '../base/deadline-heap.ts';
import type { Log } from '../base/log.ts';
import { createLedger } from '../ledger/ledger.ts';
import type { AgentMetrics } from '../observe/agent-metrics.ts';
import { defaultSdsLimits } from '../sds/limits.ts';
import { createSdsService } from '../sds/service.ts';
import type { SpiffeId, TrustDomain } from '../spiffe/id.ts';
import type { WorkloadConfig } from './config/schema.ts';
import { standingOf } from './subscribers.ts';
import { openTrustStream } from './trust-stream.ts';
import type { TrustStream } from './trust-stream.ts';
import type { Upstream } from './upstream.ts';
import type { Workload } from './workload.ts';
import { openWorkloadSocket } from './workload-socket.ts';
import { trustFeedKey, trustVersionOf, workloadSecrets } from './workload-secrets.ts';

/** One workload with all that serves it. */
export interface ServedWorkload {
  readonly workload: Workload;
  readonly trust: TrustStream;
  readonly socket: string;
  streams(): Readonly<Record<'sotw' | 'delta', number>>;
  close(graceMs: number): Promise<void>;
}

/** Local Envoys have no reason to come back often. */
const maxStreamAgeMs = 86_400_000;

/** Opens the socket last: whoever finds it is served. Throws CONFIG_INVALID. */
export async function serveWorkload(parts: {
  readonly workload: Workload;
  readonly config: WorkloadConfig;
  readonly where: string;
  readonly trustDomain: TrustDomain;
  readonly spiffeId: SpiffeId | undefined;
  readonly upstream: Upstream;
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
  // Further services of the workload go beside SDS.
  const listener = await openWorkloadSocket({ workload: config, where: parts.where, services: [sds] });
  const trust = openTrustStream({
    workload: config.name,
    upstream: parts.upstream,
    withCredential: workload.withCredential,
    take: workload.takeTrust,
    standing() {
      const held = workload.feed.current()?.anchors.get(trustDomain);
      return held ? standingOf(ledger, trustFeedKey, trustVersionOf(held)) : { kind: 'taken' };
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
    streams() {
      const count = { sotw: 0, delta: 0 };
      for (const { api } of ledger.streams()) count[api]++;
      return count;
    },
    async close(graceMs) {
      workload.close();
      trust.close();
      await Promise.all([listener.close(graceMs), sds.drain(deadlineSignal(graceMs))]);
      await ledger.close();
    },
  };
}
