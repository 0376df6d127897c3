/**
 * Two hundred agents ask at once, and again as soon as they are served, of a server that can do a tenth of that: bound by
 * its rate, then by a slow CA. All are served in the end, memory stays where it is, and Envoy notices nothing.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import { processUsage } from '../bench/process-usage.ts';
import type { HerdOrder, HerdOutcome } from '../support/herd-worker.ts';
import { describeLoad, startLoad } from '../support/load.ts';
import type { LoadReport } from '../support/load.ts';
import { startMesh } from '../support/mesh.ts';
import type { Mesh } from '../support/mesh.ts';
import { mintToken, serverCa } from '../support/signet.ts';

const agents = 200;
const certificatesEach = 3;
const herdMs = 300_000;

interface HerdReport extends HerdOutcome {
  /** Means of the server's resident memory, in MiB. */
  readonly middleThird: number;
  readonly lastThird: number;
}

async function runHerd({ signet }: Mesh): Promise<HerdReport> {
  const accounts = Array.from({ length: agents }, (_, i) => `agent-${String(i)}`);
  const tokens = await Promise.all(accounts.map((serviceAccount) => mintToken(signet.data, { namespace: 'shop', serviceAccount })));
  const order: HerdOrder = { address: signet.grpc, serverCa: (await serverCa(signet.data)).toString(), tokens, certificatesEach };
  const resident: number[] = [];
  const worker = new Worker(new URL('../support/herd-worker.ts', import.meta.url), { workerData: order });
  const watch = setInterval(() => resident.push(processUsage(signet.pid).residentKiB / 1024), 100);
  try {
    // An error on that thread rejects this too.
    const [outcome] = (await once(worker, 'message', { signal: AbortSignal.timeout(herdMs) })) as [HerdOutcome];
    const third = Math.floor(resident.length / 3);
    return { ...outcome, middleThird: mean(resident.slice(third, 2 * third)), lastThird: mean(resident.slice(2 * third)) };
  } finally {
    clearInterval(watch);
    await worker.terminate();
  }
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

async function herdStory(t: TestContext, mesh: Mesh, reason: string): Promise<void> {
  const workload = await mesh.workload({ serviceAccount: 'web' });
  const load = startLoad(workload.target('h1'), () => mesh.client());
  let report: HerdReport;
  let renewed = 0;
  let traffic: LoadReport;
  try {
    await load.sawSerials(1);
    const before = load.serials.length;
    report = await runHerd(mesh);
    renewed = load.serials.length - before;
  } finally {
    traffic = await load.stop();
  }
  const refused = [...report.refusals].map(([why, times]) => `${String(times)} x ${why}`).join(', ');
  t.diagnostic(
    `${String(report.served)} certificates in ${report.seconds.toFixed(1)} s, refused ${refused}, at most ${String(report.mostTries)} tries of one agent; ` +
      `resident MiB ${report.middleThird.toFixed(1)} in the middle third, ${report.lastThird.toFixed(1)} in the last; ${String(renewed)} renewals of the live stream`,
  );
  t.diagnostic(describeLoad(traffic));
  assert.equal(report.served, agents * certificatesEach);
  assert.ok((report.refusals.get(reason) ?? 0) >= agents / 2, 'the server was bounded');
  assert.ok(report.lastThird <= 1.1 * report.middleThird, 'memory grows');
  assert.ok(renewed >= 2, 'the live stream was renewed meanwhile');
  assert.equal(traffic.failed, 0);
  assert.equal(await workload.envoy.stat('sds.default.update_rejected'), 0);
}

describe('a herd of two hundred agents', () => {
  it('is served at the rate that all may have together', async (t) => {
    await using mesh = await startMesh({ leafTtl: '20s', config: { limits: { totalIssuancePerSecond: 20, totalIssuanceBurst: 20 } } });
    await herdStory(t, mesh, 'RATE_LIMITED');
  });

  it('is served as fast as a slow CA can, and told when to come back until then', async (t) => {
    const signing = { concurrency: 2, queue: 40, wait: '5s' };
    await using mesh = await startMesh({ leafTtl: '20s', outages: true, config: { ca: { signing } } });
    await mesh.signet.authority('slow');
    await herdStory(t, mesh, 'OVERLOADED');
  });
});
