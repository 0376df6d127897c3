import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, it } from 'node:test';
import { eventually } from './eventually.ts';
import { describeLoad, startLoad } from './load.ts';
import { startMesh, type Workload } from './mesh.ts';
import { freePort } from './ports.ts';
import { assertOnRecord } from './rotation-story.ts';

/** What the agent says of the certificate that it holds: seconds until its renewal, and until its end. */
async function certificate(http: string): Promise<{ readonly renewal: number; readonly end: number }> {
  return eventually('the certificate in the metrics', async () => {
    const text = await (await fetch(`http://${http}/metrics`, { signal: AbortSignal.timeout(5000) })).text();
    const renewal = /^signet_agent_renewal_seconds\{.*\} (\S+)$/m.exec(text)?.[1];
    const end = /^signet_agent_certificate_expiry_seconds\{.*\} (\S+)$/m.exec(text)?.[1];
    return renewal !== undefined && end !== undefined ? { renewal: Number(renewal), end: Number(end) } : undefined;
  });
}

async function expiry(workload: Workload): Promise<number> {
  const [shown] = await workload.envoy.identities();
  assert.ok(shown);
  return shown.expires;
}

/** The servers are away for long: what an agent serves goes on until it ends, and no longer. */
export function describeServerAwayFromAgent(api: 'sotw' | 'delta'): void {
  describe("the server is away, an agent's socket", () => {
    it(`for 40 % of a certificate's life, from just before its renewal (${api}): 0 failed`, async (t) => {
      await using mesh = await startMesh({ leafTtl: '90s' });
      const http = `127.0.0.1:${String(await freePort())}`;
      const web = await mesh.workload({ serviceAccount: 'web', auth: 'agent', api, agentArgs: ['--http', http] });
      const load = startLoad(web.target('h1'), () => mesh.client());
      let awayMs: number;
      for (let seen = 1; ; seen++) {
        await load.sawSerials(seen, 120_000);
        const issued = await certificate(http);
        // Renewal is drawn from 40 to 60 % of the life, and 60 and 40 are all of it: leave a moment for coming back.
        awayMs = 0.4 * issued.end * 1000;
        if ((issued.end - issued.renewal) * 1000 < awayMs + 8000) continue;
        await sleep(issued.renewal * 1000 - 500);
        break;
      }
      const before = load.serials.length;
      await mesh.restart('SIGKILL', awayMs);
      await load.sawSerials(before + 1, 60_000);
      const report = await load.stop();
      t.diagnostic(`away for ${String(Math.round(awayMs))} ms; ${describeLoad(report)}`);
      assert.equal(report.failed, 0, describeLoad(report));
      await assertOnRecord(mesh, report.serials);
    });

    it(`for two lives (${api}): nothing fails before the certificate's real end, and all is well within 5 s`, async (t) => {
      await using mesh = await startMesh({ leafTtl: '30s' });
      const web = await mesh.workload({ serviceAccount: 'web', auth: 'agent', api });
      const load = startLoad(web.target('h1'), () => mesh.client());
      await load.sawSerials(2);
      await mesh.stop('SIGKILL');
      const end = await expiry(web);
      await sleep(60_000);
      const before = load.serials.length;
      await mesh.start();
      const returned = Date.now();
      await load.sawSerials(before + 1, 60_000);
      await sleep(2000);
      const report = await load.stop();
      t.diagnostic(`${describeLoad(report)}; the last failure ${String((report.lastFailureAt ?? 0) - returned)} ms after the return`);
      assert.ok(report.firstFailureAt !== undefined && report.lastFailureAt !== undefined, 'an ended certificate served on');
      // A request under way at the end may be judged on either side of it.
      assert.ok(report.firstFailureAt >= end - 1000, `failed ${String(end - report.firstFailureAt)} ms before the end`);
      assert.ok(report.lastFailureAt <= returned + 5000, `still failing ${String(report.lastFailureAt - returned)} ms after the return`);
    });
  });
}
