import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, it } from 'node:test';
import { reportBackend } from './backend-report.ts';
import { eventually } from './eventually.ts';
import { describeLoad, startLoad } from './load.ts';
import type { Load } from './load.ts';
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
  /** What the story is called in the table of backends, if not the backend's name. */
  readonly reportAs?: string;
}

const loadTier = '30m';
const awayShare = 0.4;
/** Renewals are due when 40 to 60 % of a life are left; one in four has more than this. */
const mostLeft = 0.55;
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
      try {
        await load.sawSerials(2, 3 * leafTtl.ms);
        assert.equal((await held(mesh, web)).authority, name);
        t.diagnostic(await awayForAShare(mesh, web, backend, load));
        const long = await awayForTwoLives(mesh, web, backend, load, leafTtl.ms);
        t.diagnostic(long.said);
        // Whoever is here has seen no failure in the short outage.
        await reportBackend({ kind: 'away', backend: options.reportAs ?? name, failedShort: 0, recoveredMs: long.recoveredMs });
      } finally {
        t.diagnostic(describeLoad(await load.stop()));
      }
      await assertOnRecord(mesh, load.serials);
    });
  });
}

/** Away for 40 % of a life, from just before a renewal to the moment when it answers again. */
async function awayForAShare(mesh: Mesh, web: Workload, backend: AwayBackend, load: Load): Promise<string> {
  // What a real engine takes to come up is part of its being away.
  await backend.stop(mesh);
  const beganToStart = Date.now();
  await backend.start(mesh);
  const startMs = Date.now() - beganToStart;

  const { renewAt, notAfter, issuedAt } = await worstMoment(mesh, web, 1500 + startMs / 2);
  await sleep(Math.max(0, renewAt - Date.now() - 300));
  const seen = load.serials.length;
  const wentAt = Date.now();
  await backend.stop(mesh);
  await sleep(Math.max(0, wentAt + awayShare * (notAfter - issuedAt) - startMs - Date.now()));
  await backend.start(mesh);
  const away = Date.now() - wentAt;
  await load.sawSerials(seen + 1, notAfter - issuedAt);
  const said = `away for ${seconds(away)} of ${seconds(notAfter - issuedAt)}, back ${seconds(notAfter - wentAt - away)} before the end: ${String(load.failed)} failed`;
  assert.equal(load.failed, 0, said);
  return said;
}

async function awayForTwoLives(
  mesh: Mesh,
  web: Workload,
  backend: AwayBackend,
  load: Load,
  lifeMs: number,
): Promise<{ readonly said: string; readonly recoveredMs: number }> {
  const wentAt = Date.now();
  await backend.stop(mesh);
  const last = await held(mesh, web);
  const alertAt = await alertBefore(mesh, last.notAfter);
  await sleep(Math.max(0, wentAt + 2 * lifeMs - Date.now()));
  const before = load.serials.length;
  await backend.start(mesh);
  const returned = Date.now();
  await load.sawSerials(before + 1, 60_000);
  await sleep(2000);
  const { firstFailureAt, lastFailureAt } = load;
  assert.ok(firstFailureAt !== undefined && lastFailureAt !== undefined, 'an ended certificate served on');
  const said =
    `away for ${seconds(returned - wentAt)}: the alert ${seconds(last.notAfter - alertAt)} before the end, the first failure ${seconds(firstFailureAt - last.notAfter)} after it, ` +
    `the last one ${seconds(lastFailureAt - returned)} after the return`;
  // A request under way at the end may be judged on either side of it.
  assert.ok(firstFailureAt >= last.notAfter - 1000, said);
  assert.ok(lastFailureAt <= returned + recoveryMs, said);
  return { said, recoveredMs: Math.max(0, lastFailureAt - returned) };
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** The configuration of a mesh whose one CA is this backend. */
export function withBackend(name: string, { settings, mesh }: Pick<AwayBackend, 'settings' | 'mesh'>): Readonly<Record<string, unknown>> {
  const more = mesh?.config ?? {};
  return {
    ...more,
    ca: { ...(more['ca'] as object | undefined), backends: { [name]: settings }, default: name },
    // What the client shows lives through the story, so that what fails is Envoy's side.
    policy: { tiers: { load: loadTier }, rules: [{ match: '/ns/load/**', tier: 'load' }], ...(more['policy'] as object | undefined) },
  };
}

export interface Held {
  readonly issuedAt: number;
  readonly notAfter: number;
  readonly renewAt: number;
  readonly authority: string;
}

/** The certificate that a workload's Envoy holds, as the server sees it. */
export async function held(mesh: Mesh, workload: Workload): Promise<Held> {
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

/** A certificate of which 40 % and this time are left when its renewal is due, as far as any has that. */
async function worstMoment(mesh: Mesh, workload: Workload, spareMs: number): Promise<Held> {
  for (;;) {
    const certificate = await held(mesh, workload);
    const life = certificate.notAfter - certificate.issuedAt;
    const needed = Math.min(mostLeft * life, awayShare * life + spareMs);
    if (certificate.notAfter - certificate.renewAt >= needed && certificate.renewAt > Date.now() + 500) return certificate;
    // A CA that has just come back may take a moment to be found; how long it may take is judged elsewhere.
    await mesh.renew(workload.id).catch(() => 0);
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
