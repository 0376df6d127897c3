/** The CA hangs, then fails, for 30 seconds in all, while certificates of two minutes are due: nobody notices. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, it } from 'node:test';
import { describeLoad, startLoad } from '../support/load.ts';
import { startMesh } from '../support/mesh.ts';
import { assertOnRecord } from '../support/rotation-story.ts';
import { askAdmin } from '../support/signet.ts';

describe('an authority in trouble', () => {
  it('hangs for 15 s and fails for 15 s from just before a renewal, with certificates of 2 minutes: 0 failed', async (t) => {
    await using mesh = await startMesh({ leafTtl: '2m', outages: true });
    const workloads = [
      await mesh.workload({ serviceAccount: 'web', api: 'sotw' }),
      await mesh.workload({ serviceAccount: 'csr-web', api: 'delta', auth: 'envoy-grpc-token' }),
    ];
    const loads = workloads.map((workload) => startLoad(workload.target('h1'), () => mesh.client()));
    await Promise.all(loads.map(async (load) => load.sawSerials(1)));

    const { streams } = await askAdmin(mesh.signet.data, async (admin) => admin.status());
    const due = streams.flatMap((stream) => stream.secrets).filter(({ renewAt }) => renewAt > 0);
    const first = Math.min(...due.map(({ renewAt }) => renewAt));
    await sleep(Math.max(0, first - Date.now() - 1000));
    await mesh.signet.authority('hangs');
    await sleep(15_000);
    await mesh.signet.authority('fails');
    await sleep(15_000);
    await mesh.signet.authority('works');

    await Promise.all(loads.map(async (load) => load.sawSerials(2, 120_000)));
    for (const load of loads) {
      const report = await load.stop();
      t.diagnostic(describeLoad(report));
      assert.equal(report.failed, 0, describeLoad(report));
      await assertOnRecord(mesh, report.serials);
    }
    assert.match(await mesh.signet.log(), /AUTHORITY_UNAVAILABLE/, 'the outage was felt');
  });
});
