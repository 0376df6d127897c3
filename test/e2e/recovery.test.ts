/** What a crash, a stop and an outage of the server do to traffic: nothing. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { eventually } from '../support/eventually.ts';
import { describeLoad, startLoad } from '../support/load.ts';
import { startMesh } from '../support/mesh.ts';
import { assertOnRecord } from '../support/rotation-story.ts';

describe('the server goes away and comes back', () => {
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    it(`${signal} and restart in the middle of a rotation: nothing fails, nothing shown is lost`, async (t) => {
      await using mesh = await startMesh({ leafTtl: '60s' });
      const web = await mesh.workload({ serviceAccount: 'web', auth: 'envoy-grpc-token' });
      const host = await mesh.workload({ serviceAccount: 'csr-web', auth: 'envoy-grpc-token', api: 'delta' });
      const loads = [web, host].map((workload) => startLoad(workload.target('h1'), () => mesh.client()));
      const shown = new Set<string>();
      const look = async (): Promise<void> => {
        for (const { envoy } of [web, host]) for (const { serial } of await envoy.identities()) shown.add(serial);
      };
      for (let n = 1; n <= 3; n++) {
        await Promise.all(loads.map(async (load) => load.sawSerials(n)));
        // Renewals are under way, and perhaps sent, when it dies.
        const renewals = [web, host].map(async ({ id }) => mesh.renew(id).catch(() => 0));
        if (n > 1) await Promise.race(renewals);
        await mesh.restart(signal);
        await Promise.all(renewals);
        await look();
        // Back in service: both streams are held again, and a renewal gets through.
        for (const { id } of [web, host]) {
          await eventually(`a renewal of ${id}`, async () => ((await mesh.renew(id)) > 0 ? true : undefined), 30_000, 200);
        }
        await Promise.all(loads.map(async (load) => load.sawSerials(n + 1)));
        await look();
      }
      const reports = await Promise.all(loads.map(async (load) => load.stop()));
      for (const report of reports) {
        t.diagnostic(describeLoad(report));
        assert.equal(report.failed, 0, describeLoad(report));
      }
      await assertOnRecord(mesh, [...shown, ...reports.flatMap((report) => report.serials)]);
    });
  }

  it('a stop drains: streams end with OK, and Envoy logs no reset', async () => {
    await using mesh = await startMesh({ leafTtl: '1h' });
    const web = await mesh.workload({ serviceAccount: 'web', auth: 'envoy-grpc-token', api: 'delta' });
    await mesh.restart('SIGTERM');
    await eventually('both streams back', async () => ((await web.envoy.stat('sds.default.update_attempt')) >= 2 ? true : undefined));
    // An end with OK is not worth a line to Envoy; a reset is.
    assert.doesNotMatch(await web.envoy.log(), /gRPC config stream to signet closed: (?!14)/);
  });

  it('a client certificate still opens streams after a restart', async () => {
    await using mesh = await startMesh({ leafTtl: '1h' });
    const web = await mesh.workload({ serviceAccount: 'web', auth: 'client-certificate', api: 'delta' });
    const load = startLoad(web.target('h1'), () => mesh.client());
    await load.sawSerials(1);
    await mesh.restart('SIGKILL');
    await eventually('a renewal', async () => ((await mesh.renew(web.id)) > 0 ? true : undefined), 30_000, 200);
    await load.sawSerials(2);
    const report = await load.stop();
    assert.equal(report.failed, 0, describeLoad(report));
  });

  it('started while the server is away, an Envoy comes up as soon as it is there', async () => {
    await using mesh = await startMesh({ leafTtl: '1h' });
    await mesh.stop('SIGKILL');
    const starting = mesh.workload({ serviceAccount: 'web', auth: 'envoy-grpc-token', api: 'delta' });
    await mesh.start();
    const web = await starting;
    const load = startLoad(web.target('h2'), () => mesh.client());
    await load.sawSerials(1);
    assert.equal((await load.stop()).failed, 0);
  });
});
