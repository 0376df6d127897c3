import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, it } from 'node:test';
import { eventually } from './eventually.ts';
import { describeLoad, startLoad } from './load.ts';
import { startMesh, type Mesh, type Workload } from './mesh.ts';
import { assertOnRecord } from './rotation-story.ts';
import { askAdmin } from './signet.ts';

interface Held {
  readonly issuedAt: number;
  readonly notAfter: number;
  readonly renewAt: number;
}

/** The certificate that a workload's Envoy holds, as the server sees it. */
async function held(mesh: Mesh, workload: Workload): Promise<Held> {
  return eventually('the acknowledged certificate', async () =>
    askAdmin(mesh.signet.data, async (admin) => {
      const { streams } = await admin.status();
      const secrets = streams.filter(({ spiffeId }) => spiffeId === workload.id).flatMap((stream) => stream.secrets);
      const secret = secrets.find(({ serial, state }) => serial !== '' && state === 'acknowledged');
      if (!secret) return undefined;
      const { issuedAt } = await admin.certificate(secret.serial);
      return { issuedAt, notAfter: secret.notAfter, renewAt: secret.renewAt };
    }),
  );
}

/** The server is away for long: certificates in force serve on, and no longer than they may. */
export function describeServerAway(serviceAccount: 'web' | 'csr-web', api: 'sotw' | 'delta'): void {
  describe('the server is away', () => {
    it(`for 40 % of a certificate's life, from just before its renewal (${serviceAccount}, ${api}): 0 failed`, async (t) => {
      await using mesh = await startMesh({ leafTtl: '90s' });
      const web = await mesh.workload({ serviceAccount, api, auth: 'envoy-grpc-token' });
      const load = startLoad(web.target('h1'), () => mesh.client());
      await load.sawSerials(1);
      // Renewal is drawn from 40 to 60 % of the life, and 60 and 40 are all of it: leave a moment for coming back.
      let certificate = await held(mesh, web);
      while (certificate.notAfter - certificate.renewAt < 0.4 * life(certificate) + 8000) {
        await mesh.renew(web.id);
        await sleep(1000);
        certificate = await held(mesh, web);
      }
      await sleep(certificate.renewAt - Date.now() - 500);
      const before = load.serials.length;
      await mesh.restart('SIGKILL', 0.4 * life(certificate));
      await load.sawSerials(before + 1, 60_000);
      const report = await load.stop();
      t.diagnostic(describeLoad(report));
      assert.equal(report.failed, 0, describeLoad(report));
      await assertOnRecord(mesh, report.serials);
    });

    it(`for two lives (${serviceAccount}, ${api}): nothing fails before the certificate's real end, and all is well within 5 s`, async (t) => {
      await using mesh = await startMesh({ leafTtl: '30s' });
      const web = await mesh.workload({ serviceAccount, api, auth: 'envoy-grpc-token' });
      const load = startLoad(web.target('h1'), () => mesh.client());
      await load.sawSerials(2);
      await mesh.stop('SIGKILL');
      const [last] = await web.envoy.identities();
      assert.ok(last);
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
      assert.ok(report.firstFailureAt >= last.expires - 1000, `failed ${String(last.expires - report.firstFailureAt)} ms before the end`);
      assert.ok(report.lastFailureAt <= returned + 5000, `still failing ${String(report.lastFailureAt - returned)} ms after the return`);
    });
  });
}

function life(certificate: Held): number {
  return certificate.notAfter - certificate.issuedAt;
}
