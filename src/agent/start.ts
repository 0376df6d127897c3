import { openHttpListener } from '../api/http-listener.ts';
import { systemClock } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { createClosing } from '../base/closing.ts';
import { createDeadlineHeap } from '../base/deadline-heap.ts';
import type { Log } from '../base/log.ts';
import { packageVersion } from '../base/package-version.ts';
import { splitAddress } from '../config/address.ts';
import { createAgentMetrics } from '../observe/agent-metrics.ts';
import { createLogger } from '../observe/logger.ts';
import { createRenewer } from '../rotation/renewer.ts';
import type { RenewableCertificates } from '../rotation/renewer.ts';
import type { SpiffeId, TrustDomain } from '../spiffe/id.ts';
import { parseSpiffeId, parseTrustDomain } from '../spiffe/id.ts';
import type { AgentConfig, WorkloadConfig } from './config/schema.ts';
import { openWorkloadFiles } from './files/workload-files.ts';
import type { WorkloadFiles } from './files/workload-files.ts';
import { openSealedCache } from './sealed-cache.ts';
import type { SealedCache } from './sealed-cache.ts';
import { openSealingKey } from './sealing-key.ts';
import { serveWorkload } from './served-workload.ts';
import type { ServedWorkload } from './served-workload.ts';
import { createTrustVersions } from './trust-versions.ts';
import type { TrustVersions } from './trust-versions.ts';
import { createUpstream } from './upstream.ts';
import { createWorkload } from './workload.ts';
import type { Workload } from './workload.ts';
import type { WorkloadMaterialFeed } from './workload-material.ts';

export interface RunningAgent {
  /** In the order of the configuration. */
  readonly sockets: readonly string[];
  /** HOST:PORT, if it is configured. */
  readonly httpAddress: string | undefined;
  /** By the workload's name. */
  readonly materials: ReadonlyMap<string, WorkloadMaterialFeed>;
  /** Ends streams with OK and gives the sockets back. Once. */
  close(): Promise<void>;
}

export interface StartAgentOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
}

const drainMs = 3000;

/**
 * Wires the agent and listens. It waits for no server: what the cache holds is served at once, and the rest when it comes.
 * What was opened before a step that fails is closed again. Throws a SignetError that says what to do.
 */
export async function startAgent(config: AgentConfig, options: StartAgentOptions): Promise<RunningAgent> {
  const log = createLogger({ level: config.log.level });
  const closing = createClosing(log);
  try {
    const running = await compose(config, options, log, closing);
    options.signal?.throwIfAborted();
    return running;
  } catch (error) {
    await closing.run();
    throw error;
  }
}

async function compose(
  config: AgentConfig,
  options: StartAgentOptions,
  log: Log,
  closing: ReturnType<typeof createClosing>,
): Promise<RunningAgent> {
  const clock = systemClock;
  const random = Math.random;
  const startedAt = clock.now();
  const trustDomain = parseTrustDomain(config.trustDomain);
  const metrics = createAgentMetrics(packageVersion());
  const heap = createDeadlineHeap(clock, (error) => {
    log.error({ err: error }, 'a deadline failed');
  });
  closing.add('deadlines', heap.close);
  const trustVersions = createTrustVersions(clock);
  const cache = await openCache(config, options.env, { trustDomain, trustVersions, clock, log });
  const { caFile, pinnedSpki, name } = config.serverTrust;
  const upstream = createUpstream({
    servers: config.servers,
    trust: caFile === undefined ? { pinnedSpki: new Set(pinnedSpki.map((pin) => pin.toLowerCase())) } : { caFile },
    serverName: name ?? `spiffe://${trustDomain}/signet/server`,
    clock,
    random,
  });
  closing.add('upstream', upstream.close);

  const workloads = new Map<string, Workload>();
  const served: ServedWorkload[] = [];
  // All at once: two hundred one after the other would take their time.
  closing.add('workloads', async () => {
    await Promise.all(served.map((one) => one.close(drainMs)));
  });
  const written: WorkloadFiles[] = [];
  closing.add('files', async () => {
    await Promise.all(written.map((files) => files.close(drainMs)));
  });
  for (const [i, one] of config.workloads.entries()) {
    const spiffeId = expectedId(one);
    const workload = createWorkload({
      ...one,
      spiffeId,
      trustDomain,
      renewByCertificate: config.renewByCertificate,
      upstream,
      trustVersions,
      initial: await cache?.load(one.name, spiffeId),
      keep: (held) => cache?.save(one.name, held),
      renewed: (seconds) => {
        metrics.renewed(one.name, seconds);
      },
      clock,
      log,
    });
    workloads.set(one.name, workload);
    const where = `workloads[${String(i)}]`;
    const serving = await serveWorkload({
      workload,
      config: one,
      where,
      spiffeId,
      trustDomain,
      upstream,
      cache,
      metrics,
      clock,
      heap,
      random,
      log,
    });
    served.push(serving);
    if (one.files) {
      const files = await openWorkloadFiles({
        workload: one.name,
        where: `${where}.files`,
        config: one.files,
        trustDomain,
        feed: workload.feed,
        events: { written: metrics.filesWritten, writeFailed: metrics.filesFailed, commandEnded: metrics.commandEnded },
        clock,
        random,
        log,
      });
      written.push(files);
    }
    workload.onEvent((event) => {
      if (event.kind === 'failed') metrics.renewalFailed(one.name, workload.failure()?.code ?? 'INTERNAL');
    });
  }
  const renewer = createRenewer({ heap, clock, random, certificates: renewable(workloads), log });
  closing.add('renewer', renewer.close);

  const readiness = (): { ready: boolean; detail: string } => readinessOf(workloads, clock.now());
  metrics.watch({
    streams: () => streamsOf(served),
    workloads: () => served.map((one) => factsOf(one, renewer.dueAt(one.workload.name), clock.now())),
    ready: () => readiness().ready,
  });
  let httpAddress: string | undefined;
  if (config.listen.http !== undefined) {
    const http = await openHttpListener({ ...splitAddress(config.listen.http), log, metrics: metrics.page, readiness });
    closing.add('http', http.close);
    httpAddress = http.address;
  }
  // After the doors: what the cache holds is served before anything else is done.
  for (const one of served) one.start();
  log.info({ workloads: served.length, http: httpAddress, trustDomain, ms: clock.now() - startedAt }, 'serving');
  let closingRun: Promise<void> | undefined;
  return {
    sockets: served.map(({ socket }) => socket),
    httpAddress,
    materials: new Map([...workloads].map(([workloadName, { feed }]) => [workloadName, feed])),
    close: () => (closingRun ??= closing.run()),
  };
}

async function openCache(
  { cache }: AgentConfig,
  env: NodeJS.ProcessEnv,
  parts: { readonly trustDomain: TrustDomain; readonly trustVersions: TrustVersions; readonly clock: Clock; readonly log: Log },
): Promise<SealedCache | undefined> {
  const seal = await openSealingKey(cache.sealingKeyFile, env);
  if (cache.folder !== undefined && seal) return openSealedCache({ folder: cache.folder, seal, ...parts });
  const why = cache.folder === undefined ? 'cache.folder is not set' : 'there is no sealing key';
  parts.log.warn({ why }, 'the cache is off: an agent that restarts while every server is away has nothing to serve');
  return undefined;
}

function expectedId({ spiffeId }: WorkloadConfig): SpiffeId | undefined {
  return spiffeId === undefined ? undefined : parseSpiffeId(spiffeId);
}

/** Workloads are the configuration's: they are never idle, and never forgotten. */
function renewable(workloads: ReadonlyMap<string, Workload>): RenewableCertificates {
  return {
    observe(listener) {
      const stops = [...workloads.values()].map((workload) => {
        const before = workload.lastPublished();
        if (before) listener(before);
        return workload.onEvent(listener);
      });
      return () => {
        for (const stop of stops) stop();
      };
    },
    renewNow: (name) => void workloads.get(name)?.renew(),
    dropIdle: () => undefined,
  };
}

function readinessOf(workloads: ReadonlyMap<string, Workload>, now: number): { ready: boolean; detail: string } {
  const without = [...workloads.values()].filter(({ feed }) => (feed.current()?.chain.notAfter ?? 0) <= now);
  const [first] = without;
  if (!first) return { ready: true, detail: '' };
  const why = first.failure()?.message ?? 'it is being made';
  return {
    ready: false,
    detail: `${String(without.length)} of ${String(workloads.size)} workloads have no certificate: ${first.name}: ${why}`,
  };
}

function streamsOf(served: readonly ServedWorkload[]): Readonly<Record<'sotw' | 'delta', number>> {
  const count = { sotw: 0, delta: 0 };
  for (const one of served) {
    const { sotw, delta } = one.streams();
    count.sotw += sotw;
    count.delta += delta;
  }
  return count;
}

function factsOf({ workload, trust }: ServedWorkload, dueAt: number | undefined, now: number) {
  const notAfter = workload.feed.current()?.chain.notAfter;
  return {
    name: workload.name,
    expirySeconds: notAfter === undefined ? undefined : (notAfter - now) / 1000,
    renewalSeconds: dueAt === undefined ? undefined : (dueAt - now) / 1000,
    connected: trust.connected,
    laggards: trust.lagging()?.laggards ?? 0,
  };
}
