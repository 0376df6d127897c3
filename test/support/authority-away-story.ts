import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, it } from 'node:test';
import { eventually } from './eventually.ts';
import { describeLoad, startLoad } from './load.ts';
import { startMesh } from './mesh.ts';
import type { Mesh, MeshWish, Workload } from './mesh.ts';
import { assertOnRecord } from './rotation-story.ts';
import { askAdmin } from './signet.ts';

/** A CA that can be taken away, and how Signet is told to use it. */
export interface AwayBackend extends AsyncDisposable {
  /**
   * What stands under `ca.backends.<name>` in the configuration. It must give certificates of the trust domain
   * `cluster.local` with any SAN under `spiffe://cluster.local/ns/`, of `leafTtl` and of 30 minutes.
   */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Nobody answers from now on. */
  stop(mesh: Mesh): Promise<void>;
  /** The same CA at the same address answers again when this resolves. */
  start(mesh: Mesh): Promise<void>;
  /** More of the mesh: environment, further configuration. */
  readonly mesh?: Partial<MeshWish>;
}

export interface AwayOptions {
  /** 20 s unless the CA can give none so short. The whole story takes about five of them. */
  readonly leafTtl?: { readonly text: string; readonly ms: number };
}

const loadTier = '30m';
/** Renewals are due at 60 % of a life at the latest, and the tries after the outage need a moment: so much of a life must be left after 40 %. */
const leftForTries = 0.08;
const recoveryMs = 5000;

/**
 * A real Envoy in front of one authority. Its certificate is served and rotated; then the CA is away for 40 % of a
 * certificate's life from the worst moment, and nobody notices; then for two lives: nothing fails before the real end, the
 * metric to alert on tells of it before that, and all is well within 5 s of the return.
 */
export function describeAuthorityAway(name: string, open: () => Promise<AwayBackend>, options: AwayOptions = {}): void {
  const leafTtl = options.leafTtl ?? { text: '20s', ms: 20_000 };

  describe(`${name}, with an Envoy before it`, () => {
    it(`serves, rotates, and is away for 40 % of a life (0 failed) and for two lives (none before the end, well within 5 s)`, async (t) => {
      await using backend = await open();
      await using mesh = await startMesh({ ...backend.mesh, leafTtl: leafTtl.text, config: withBackend(name, backend) });
      const web = await mesh.workload({ serviceAccount: 'web', auth: 'envoy-grpc-token', api: 'delta' });
      const load = startLoad(web.target('h1'), () => mesh.client());
      await load.sawSerials(2, 3 * leafTtl.ms);
      await signedBy(mesh, web, name);

      const short = await worstMoment(mesh, web);
      await sleep(Math.max(0, short.renewAt - Date.now() - 300));
      const seen = load.serials.length;
      await backend.stop(mesh);
      const away = 0.4 * (short.notAfter - short.issuedAt);
      await sleep(away);
      await backend.start(mesh);
      await load.sawSerials(seen + 1, 3 * leafTtl.ms);
      t.diagnostic(
        `away for ${(away / 1000).toFixed(1)} s of ${((short.notAfter - short.issuedAt) / 1000).toFixed(1)} s: ${String(load.failed)} failed`,
      );
      assert.equal(load.failed, 0, 'failed while the CA was away for 40 % of a life');

      await backend.stop(mesh);
      const wentAt = Date.now();
      const last = await held(mesh, web);
      const alertAt = await alertBefore(mesh, last.notAfter);
      await sleep(Math.max(0, wentAt + 2 * leafTtl.ms - Date.now()));
      const before = load.serials.length;
      await backend.start(mesh);
      const returned = Date.now();
      await load.sawSerials(before + 1, 60_000);
      await sleep(2000);
      const report = await load.stop();
      const { firstFailureAt, lastFailureAt } = report;
      t.diagnostic(describeLoad(report));
      assert.ok(firstFailureAt !== undefined && lastFailureAt !== undefined, 'an ended certificate served on');
      t.diagnostic(
        `two lives away: first failure ${String(firstFailureAt - last.notAfter)} ms after the end, alert ${String(last.notAfter - alertAt)} ms before it, ` +
          `last failure ${String(lastFailureAt - returned)} ms after the return`,
      );
      // A request under way at the end may be judged on either side of it.
      assert.ok(firstFailureAt >= last.notAfter - 1000, `failed ${String(last.notAfter - firstFailureAt)} ms before the end`);
      assert.ok(lastFailureAt <= returned + recoveryMs, `still failing ${String(lastFailureAt - returned)} ms after the return`);
      await assertOnRecord(mesh, report.serials);
    });
  });
}

function withBackend(name: string, { settings, mesh }: AwayBackend): Readonly<Record<string, unknown>> {
  const more = mesh?.config ?? {};
  return {
    ...more,
    ca: { ...(more['ca'] as object | undefined), backends: { [name]: settings }, default: name },
    // What the client shows lives through the story, so that what fails is Envoy's side.
    policy: { tiers: { load: loadTier }, rules: [{ match: '/ns/load/**', tier: 'load' }], ...(more['policy'] as object | undefined) },
  };
}

interface Held {
  readonly issuedAt: number;
  readonly notAfter: number;
  readonly renewAt: number;
  readonly authority: string;
}

/** The certificate that a workload's Envoy holds, as the server sees it. */
async function held(mesh: Mesh, workload: Workload): Promise<Held> {
  return eventually('the acknowledged certificate', async () =>
    askAdmin(mesh.signet.data, async (admin) => {
      const { streams } = await admin.status();
      const secrets = streams.filter(({ spiffeId }) => spiffeId === workload.id).flatMap((stream) => stream.secrets);
      const secret = secrets.find(({ serial, state, notAfter }) => serial !== '' && state === 'acknowledged' && notAfter > 0);
      if (!secret) return undefined;
      const { issuedAt, authority } = await admin.certificate(secret.serial);
      return { issuedAt, authority, notAfter: secret.notAfter, renewAt: secret.renewAt };
    }),
  );
}

async function signedBy(mesh: Mesh, workload: Workload, name: string): Promise<void> {
  assert.equal((await held(mesh, workload)).authority, name);
}

/** A certificate of which 40 % and a moment for coming back are left when its renewal is due. */
async function worstMoment(mesh: Mesh, workload: Workload): Promise<Held> {
  for (;;) {
    const certificate = await held(mesh, workload);
    const life = certificate.notAfter - certificate.issuedAt;
    const fits = certificate.notAfter - certificate.renewAt >= (0.4 + leftForTries) * life;
    if (fits && certificate.renewAt > Date.now() + 500) return certificate;
    await mesh.renew(workload.id);
    await sleep(500);
  }
}

/** When the metric that the alert of docs/reference/metrics.md goes by first told of it. */
async function alertBefore(mesh: Mesh, end: number): Promise<number> {
  while (Date.now() < end) {
    const page = await (await fetch(`http://${mesh.signet.http}/metrics`, { signal: AbortSignal.timeout(2000) })).text();
    if (/^signet_renewals_overdue [1-9]/m.test(page)) return Date.now();
    await sleep(100);
  }
  throw new Error('nothing alerted before the end of the certificate');
}
