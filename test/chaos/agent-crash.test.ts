/** An agent is killed while its server is away, and comes back from its sealed cache. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startEnvoy } from '../support/envoy.ts';
import { eventually } from '../support/eventually.ts';
import { describeLoad, startLoad } from '../support/load.ts';
import { startMesh } from '../support/mesh.ts';
import { requestOnce } from '../support/mtls-request.ts';
import { rawSdsClient } from '../support/raw-sds-client.ts';
import { rawWorkloadClient } from '../support/raw-workload-client.ts';

describe('an agent that is killed while its server is away', () => {
  it('serves a new Envoy within a second of being back, with 0 failed at the old one', async (t) => {
    await using mesh = await startMesh({ leafTtl: '10m' });
    let bootstrap = '';
    const web = await mesh.workload({
      serviceAccount: 'web',
      auth: 'agent',
      api: 'delta',
      bootstrap: (text) => (bootstrap = text),
    });
    const { agent } = web;
    assert.ok(agent);
    const load = startLoad(web.target('h1'), () => mesh.client());
    await load.sawSerials(1);
    await mesh.stop('SIGKILL');
    await agent.kill('SIGKILL');
    await sleep(2000);
    const startedAt = Date.now();
    await agent.start();
    const readyAt = Date.now();

    const client = rawSdsClient(`unix:${agent.socket}`);
    const stream = client.stream('sotw');
    stream.send({ resource_names: ['default'] });
    const [secret] = (await stream.next()).secrets;
    const servedMs = Date.now() - readyAt;
    client.close();
    assert.equal(secret?.name, 'default');
    using workload = rawWorkloadClient(agent.socket);
    await workload.stream('FetchX509SVID').next();
    const workloadMs = Date.now() - readyAt;

    await using second = await startEnvoy({ bootstrap });
    const envoyAt = Date.now();
    await eventually(
      'the secrets in the second Envoy',
      async () => ((await second.stat('sds.default.update_success')) > 0 ? true : undefined),
      10_000,
    );
    const envoyMs = Date.now() - envoyAt;
    const port = await second.port('inbound');
    assert.match(await requestOnce({ port, peer: web.id, http: 'h1' }, mesh.client(), 10_000), /^[0-9a-f]+$/);

    await sleep(3000);
    const report = await load.stop();
    t.diagnostic(
      `ready ${String(readyAt - startedAt)} ms after its start, an SDS client served ${String(servedMs)} ms later, one of the Workload API after ${String(workloadMs)} ms, a new Envoy in ${String(envoyMs)} ms; ${describeLoad(report)}`,
    );
    assert.equal(report.failed, 0, describeLoad(report));
    assert.ok(servedMs <= 1000 && workloadMs <= 1000 && envoyMs <= 1000, 'served within a second');
  });
});
