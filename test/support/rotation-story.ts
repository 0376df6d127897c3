import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { normalSerial } from './envoy.ts';
import { eventually } from './eventually.ts';
import { describeLoad, startLoad, type LoadReport } from './load.ts';
import type { EnvoyWish, Mesh, Workload } from './mesh.ts';
import type { HttpVersion } from './mtls-request.ts';
import { openConnections } from './open-connections.ts';
import { foreignCa } from './openssl.ts';
import { listedSerials } from './signet.ts';

export interface RotationWish {
  readonly envoy: EnvoyWish;
  readonly http: HttpVersion;
  /** How many new leaf serials the client must see. */
  readonly rotations: number;
  /** With each of them a new bundle: a root more or less than before. Needs a mesh with `extraRoots`. */
  readonly bundles?: boolean;
}

/**
 * Certificates rotate by their own schedule while a client asks on new connections all the time, each request going on from
 * the Envoy under test by mTLS to a second Envoy that rotates as well. Nothing may fail, open connections live on, and what
 * client and Envoy ever saw is on record.
 */
export async function rotationStory(t: TestContext, mesh: Mesh, wish: RotationWish): Promise<LoadReport> {
  const { http } = wish;
  const payments = await mesh.workload({ serviceAccount: 'payments', ...(wish.envoy.version ? { version: wish.envoy.version } : {}) });
  await using _payments = payments.envoy;
  const web = await mesh.workload({ ...wish.envoy, upstream: { workload: payments, protocol: http === 'h2' ? 'h2' : 'http/1.1' } });
  await using _web = web.envoy;
  const shown = new Set<string>();
  const look = async (): Promise<void> => {
    for (const { serial } of [...(await web.envoy.identities()), ...(await payments.envoy.identities())]) shown.add(serial);
  };

  const load = startLoad(web.target(http), () => mesh.client());
  let report: LoadReport;
  const open = await openConnections(3, web.target(http), mesh.client());
  try {
    await load.sawSerials(1);
    for (let rotation = 1; rotation <= wish.rotations; rotation++) {
      if (wish.bundles) await newBundle(mesh, web);
      await load.sawSerials(rotation + 1);
      await look();
      await open.ask();
    }
  } finally {
    open.close();
    report = await load.stop();
    t.diagnostic(describeLoad(report));
  }
  await look();
  assert.equal(report.failed, 0, describeLoad(report));
  assert.ok(report.serials.length > wish.rotations);
  assert.equal(await web.envoy.stat('sds.default.update_rejected'), 0);
  assert.equal(await web.envoy.stat('sds.ROOTCA.update_rejected'), 0);
  await assertOnRecord(mesh, [...report.serials, ...shown]);
  return report;
}

/** Every certificate that anybody was shown is in `signet certs list`. */
export async function assertOnRecord(mesh: Mesh, serials: Iterable<string>): Promise<void> {
  const listed = await listedSerials(mesh.signet.data);
  const missing = [...serials].map(normalSerial).filter((serial) => !listed.has(serial));
  assert.deepEqual(missing, [], `${String(missing.length)} serials were shown and are not on record`);
}

async function newBundle(mesh: Mesh, workload: Workload): Promise<void> {
  const extra = await foreignCa();
  const before = await workload.envoy.stat('sds.ROOTCA.update_success');
  await mesh.replaceExtraRoots(extra.certificate);
  await eventually('the new bundle in Envoy', async () =>
    (await workload.envoy.stat('sds.ROOTCA.update_success')) > before ? true : undefined,
  );
}
