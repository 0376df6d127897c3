import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, it } from 'node:test';
import { held, withBackend } from './authority-away-story.ts';
import { reportBackend } from './backend-report.ts';
import { eventually, Hopeless } from './eventually.ts';
import { describeLoad, startLoad } from './load.ts';
import { startMesh } from './mesh.ts';
import type { Mesh } from './mesh.ts';
import { assertOnRecord } from './rotation-story.ts';
import { askAdmin } from './signet.ts';

/** A CA above an intermediate of Signet's, which can be taken away. */
export interface AwayUpstream extends AsyncDisposable {
  /** The backend `type: intermediate` below it, in the trust domain `cluster.local`. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Nobody answers from now on. */
  stop(): Promise<void>;
  /** The same CA at the same address answers again when this resolves. */
  start(): Promise<void>;
}

const backend = 'central';
const leafMs = 20_000;
/** Renewed at 40 to 60 % of 15 to 20 s: two lives have this many at least. */
const leastRenewals = 3;
/** As the page says: the upstream is looked at every half a minute. */
const toldWithinMs = 60_000;

/**
 * A real Envoy in front of an intermediate below a real CA, which is away for two lives of a leaf: renewals go on, a workload
 * that is new has its certificate, nothing fails, and the operator is told of it, until it is back.
 */
export function describeUpstreamAway(name: string, open: () => Promise<AwayUpstream>): void {
  describe(`${name}, with an Envoy before it`, () => {
    it('signs on while its upstream is away for two lives of a leaf: 0 failed, and the operator knows', async (t) => {
      await using upstream = await open();
      await using mesh = await startMesh({ leafTtl: '20s', config: withBackend(backend, upstream) });
      const web = await mesh.workload({ serviceAccount: 'web', auth: 'envoy-grpc-token', api: 'delta' });
      await using load = startLoad(web.target('h1'), () => mesh.client());
      await load.sawSerials(2, 3 * leafMs);
      assert.doesNotMatch(await saidOfCa(mesh), /;/);

      const wentAt = Date.now();
      await upstream.stop();
      const seen = load.serials.length;
      await mesh.workload({ serviceAccount: 'late', api: 'sotw' });
      const told = await eventually(
        'the operator is told',
        async () => / (central \(.*)/.exec(await saidOfCa(mesh))?.[1],
        toldWithinMs,
        500,
      );
      const toldMs = Date.now() - wentAt;
      await sleep(Math.max(0, wentAt + 2 * leafMs - Date.now()));
      const renewals = load.serials.length - seen;
      const { issuedAt, authority } = await held(mesh, web);
      assert.equal(authority, backend);
      assert.ok(issuedAt > wentAt && renewals >= leastRenewals, `${String(renewals)} renewals`);
      assert.equal(await (await fetch(`http://${mesh.signet.http}/readyz`)).text(), 'ready\n');

      await upstream.start();
      const awayMs = Date.now() - wentAt;
      await eventually('all is well', async () => !(await saidOfCa(mesh)).includes(';') || undefined, toldWithinMs, 500);
      await load.sawSerials(seen + renewals + 2, 2 * leafMs);
      const report = await load.stop();
      t.diagnostic(`away for ${seconds(awayMs)}: ${String(renewals)} renewals, told after ${seconds(toldMs)} (${told})`);
      t.diagnostic(describeLoad(report));
      assert.equal(report.failed, 0);
      await reportBackend({ kind: 'upstream-away', backend: name, failed: report.failed });
      await assertOnRecord(mesh, report.serials);
    });
  });
}

/** What `signet status` says of the one CA, which signs all the while: until when, and after a semicolon what ails it. */
async function saidOfCa(mesh: Mesh): Promise<string> {
  const { authorities } = await askAdmin(mesh.signet.data, (admin) => admin.status());
  const ca = authorities.find(({ name }) => name === backend);
  if (!ca?.canSign) throw new Hopeless(`it can't sign: ${String(ca?.detail)}`);
  return ca.detail;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
