import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { startAgentUnderTest } from './agent-under-test.ts';
import type { AgentUnderTest } from './agent-under-test.ts';
import { makeFixtures } from './fixtures.ts';
import { histogramOf, minus, quantile, sampledDurations } from './measured-durations.ts';
import { machineBusyMs, percentile, processUsage } from './process-usage.ts';
import { startServerUnderTest } from './server-under-test.ts';
import type { ServerUnderTest } from './server-under-test.ts';
import { startSpireUnderTest } from './spire-under-test.ts';
import type { SpireOptions, SpireUnderTest } from './spire-under-test.ts';
import { subscribe } from './subscriber.ts';
import type { Subscriber } from './subscriber.ts';

const rounds = Number(process.env['BENCH_ROUNDS'] ?? '3');
const renewingSeconds = Number(process.env['BENCH_AGENT_SECONDS'] ?? '60');
const subscriptions = 300;
const sizes = [1, 50, 200];
/** After all that was asked for is there: what the start left behind has been collected by then. */
const settleMs = 5000;
const idleMs = 5000;

/** What a key's certificate costs in time and a workload in memory, through the agent; beside SPIRE's if its programs are there. */
export async function benchAgent(folder: string, spireBinaries: string | undefined): Promise<void> {
  // SPIRE's workloads are users of their own, who have to get at its socket; what is ours is in folders that are closed.
  if (spireBinaries !== undefined) chmodSync(folder, 0o711);
  const spire = (name: string, options: Omit<SpireOptions, 'binaries' | 'folder'>) =>
    spireBinaries === undefined
      ? undefined
      : (work: (spire: SpireUnderTest) => Promise<void>) =>
          withSpire({ ...options, binaries: spireBinaries, folder: join(folder, `spire-${name}`) }, work);

  console.log('\nAgent: from a new connection to the certificate that is there already, one after the other\n');
  table('agent', 'connections', 'p50 ms', 'p99 ms', 'other load, cores');
  for (let round = 0; round < rounds; round++) {
    await withAgent(folder, 1, undefined, async ({ agent, server }) => {
      await subscriptionRow('signet', agent.sockets[0] ?? '', 'default', [agent.pid, server.pid]);
    });
    await spire(`first-${String(round)}`, { workloads: 1, svidSeconds: 86_400, oneUser: true })?.(async (own) => {
      await subscriptionRow('spire-agent', own.socket, own.identity(0), [own.agentPid, own.serverPid]);
    });
  }

  console.log('\nAgent: from making a key to its verified certificate, renewals\n');
  table('agent', 'workloads', 'renewals', 'mean ms', 'p50 ms', 'p99 ms', 'agent CPU ms/renewal', 'other load, cores');
  for (const [workloads, seconds] of [
    [1, 4],
    [50, 20],
    [200, 20],
  ] as const) {
    for (let round = 0; round < rounds; round++) {
      await withAgent(folder, workloads, `${String(seconds)}s`, async ({ agent, server }) => {
        await renewalRow(agent, server, workloads, seconds);
      });
      await spire(`renewals-${String(workloads)}-${String(round)}`, { workloads, svidSeconds: seconds, syncInterval: '500ms' })?.(
        async (own) => {
          await pause(seconds * 1000);
          await spireRenewalRow(own, workloads);
        },
      );
    }
  }

  console.log('\nAgent: memory and idle CPU, one subscriber a workload\n');
  table('agent', 'workloads', 'subscribers', 'ready ms', 'all served ms after exec', 'RSS MiB', 'idle CPU ms/s', 'other load, cores');
  for (const workloads of sizes) {
    for (let round = 0; round < rounds; round++) {
      await withAgent(folder, workloads, undefined, async ({ agent, server }) => {
        const subscribers = await Promise.all(agent.sockets.map((socket) => subscribe(socket, 'default')));
        const servedMs = Math.max(...subscribers.map(({ firstAt }) => firstAt)) - agent.startedAt;
        const [ready, served] = [agent.readyMs.toFixed(0), servedMs.toFixed(0)];
        await memoryRow(['signet', String(workloads), 'SDS', ready, served], agent.pid, [server.pid]);
        for (const subscriber of subscribers) subscriber.close();
      });
      await spire(`memory-${String(workloads)}-${String(round)}`, { workloads, svidSeconds: 86_400 })?.(async (own) => {
        const watchers: number[] = [];
        for (let i = 0; i < workloads; i++) watchers.push((await own.watch(i)).pid);
        await memoryRow(['spire-agent', String(workloads), 'Workload API', '-', '-'], own.agentPid, [own.serverPid, ...watchers]);
      });
    }
  }
}

interface Signet {
  readonly agent: AgentUnderTest;
  readonly server: ServerUnderTest;
}

/** Once each workload has its certificate. */
async function withAgent(folder: string, workloads: number, life: string | undefined, work: (signet: Signet) => Promise<void>) {
  const own = join(folder, 'signet');
  mkdirSync(own, { recursive: true, mode: 0o700 });
  try {
    const fixtures = await makeFixtures(own, { tokens: workloads, csrs: 0, audience: 'signet', algorithm: 'ES256' });
    const server = await startServerUnderTest({
      folder: own,
      jwksFile: fixtures.jwksFile,
      ...(life === undefined ? {} : { certificateLife: life }),
    });
    try {
      const agent = await startAgentUnderTest({ folder: own, server, fixtures, workloads });
      try {
        await work({ agent, server });
      } finally {
        await agent.stop();
      }
    } finally {
      await server.stop();
    }
  } finally {
    rmSync(own, { recursive: true, force: true });
  }
}

async function withSpire(options: SpireOptions, work: (spire: SpireUnderTest) => Promise<void>): Promise<void> {
  const spire = await startSpireUnderTest(options);
  try {
    await work(spire);
  } finally {
    await spire.stop();
    rmSync(options.folder, { recursive: true, force: true });
  }
}

async function subscriptionRow(label: string, socket: string, name: string, pids: readonly number[]): Promise<void> {
  const one = async (): Promise<Subscriber> => {
    // SPIRE ends a stream for an identity that its agent hasn't heard of yet.
    for (let attempt = 1; ; attempt++) {
      try {
        return await subscribe(socket, name);
      } catch (error) {
        if (attempt === 100) throw error;
        await pause(200);
      }
    }
  };
  // Also lets code be compiled, here and there.
  for (let i = 0; i < 100; i++) (await one()).close();
  const load = otherLoad([...pids, process.pid]);
  const durations: number[] = [];
  for (let i = 0; i < subscriptions; i++) {
    const subscriber = await subscribe(socket, name);
    durations.push(subscriber.firstMs);
    subscriber.close();
  }
  const sorted = Float64Array.from(durations).sort();
  row(label, String(subscriptions), percentile(sorted, 0.5).toFixed(2), percentile(sorted, 0.99).toFixed(1), load());
}

async function renewalRow(agent: AgentUnderTest, server: ServerUnderTest, workloads: number, lifeSeconds: number): Promise<void> {
  const name = 'signet_agent_renewal_duration_seconds';
  const subscribers = await Promise.all(agent.sockets.map((socket) => subscribe(socket, 'default')));
  await pause(lifeSeconds * 1000);
  const load = otherLoad([agent.pid, server.pid, process.pid]);
  const [before, cpuBefore] = [histogramOf(await agent.metrics(), name), processUsage(agent.pid).cpuMs];
  await pause(renewingSeconds * 1000);
  const renewed = minus(histogramOf(await agent.metrics(), name), before);
  const cpuMs = processUsage(agent.pid).cpuMs - cpuBefore;
  row(
    'signet',
    String(workloads),
    String(renewed.count),
    ((renewed.sum / renewed.count) * 1000).toFixed(1),
    (quantile(renewed, 0.5) * 1000).toFixed(1),
    (quantile(renewed, 0.99) * 1000).toFixed(1),
    (cpuMs / renewed.count).toFixed(1),
    load(),
  );
  for (const subscriber of subscribers) subscriber.close();
}

/** SPIRE makes the keys of all that is due together, and asks for them together: each of them takes as long as all. */
async function spireRenewalRow(spire: SpireUnderTest, workloads: number): Promise<void> {
  const load = otherLoad([spire.agentPid, spire.serverPid, process.pid]);
  const durations = await sampledDurations(
    () => spire.metrics(),
    'spire_agent_manager_sync_fetch_svids_updates_elapsed_time',
    renewingSeconds * 1000,
  );
  const sorted = Float64Array.from(durations).sort();
  const mean = durations.reduce((sum, one) => sum + one, 0) / durations.length;
  row(
    'spire-agent',
    String(workloads),
    `${String(durations.length)} batches`,
    mean.toFixed(1),
    percentile(sorted, 0.5).toFixed(1),
    percentile(sorted, 0.99).toFixed(1),
    '-',
    load(),
  );
}

async function memoryRow(cells: readonly string[], agent: number, others: readonly number[]): Promise<void> {
  await pause(settleMs);
  const load = otherLoad([agent, process.pid, ...others]);
  const before = processUsage(agent);
  await pause(idleMs);
  const after = processUsage(agent);
  const idle = ((after.cpuMs - before.cpuMs) / idleMs) * 1000;
  row(...cells, (after.residentKiB / 1024).toFixed(1), idle.toFixed(1), load());
}

/** Cores that the rest of the machine kept busy since, for a row. */
function otherLoad(pids: readonly number[]): () => string {
  const own = (): number => pids.reduce((sum, pid) => sum + processUsage(pid).cpuMs, 0);
  const before = { own: own(), machine: machineBusyMs(), at: performance.now() };
  return () => ((machineBusyMs() - before.machine - (own() - before.own)) / (performance.now() - before.at)).toFixed(2);
}

function table(...heads: readonly string[]): void {
  row(...heads);
  row(...heads.map(() => '---'));
}

function row(...cells: readonly string[]): void {
  console.log(`| ${cells.join(' | ')} |`);
}
