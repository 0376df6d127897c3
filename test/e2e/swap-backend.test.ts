/** Another CA at run time: its root is with everybody before it signs, the old root stays while it is needed, and nobody notices. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { certificatesFromPem } from '../../src/x509/pem.ts';
import { describeLoad, startLoad } from '../support/load.ts';
import { startMesh } from '../support/mesh.ts';
import type { TlsIdentity } from '../support/mtls-request.ts';
import { foreignCa } from '../support/openssl.ts';
import { askAdmin } from '../support/signet.ts';
import { tempFolder } from '../support/temp.ts';

describe('a CA backend swapped by a new configuration', () => {
  it('SIGHUP takes a pair of Envoys from one root to another and back: 0 failed', async (t) => {
    await using files = await tempFolder();
    for (const name of ['old', 'new']) {
      const ca = await foreignCa(`${name} root`);
      await writeFile(files.file(`${name}.pem`), ca.certificate);
      await writeFile(files.file(`${name}.key`), ca.key, { mode: 0o600 });
    }
    const backend = (name: string): object => ({ type: 'files', root: files.file(`${name}.pem`), key: files.file(`${name}.key`) });
    const using = (...names: string[]): Readonly<Record<string, unknown>> => ({
      ca: { backends: Object.fromEntries(names.map((name) => [name, backend(name)])), default: names.at(-1) },
    });

    await using mesh = await startMesh({ leafTtl: '10s', config: using('old') });
    const server = await mesh.workload({ serviceAccount: 'csr-api', api: 'delta', auth: 'envoy-grpc-token' });
    const web = await mesh.workload({ serviceAccount: 'web', api: 'sotw', upstream: { workload: server, protocol: 'h2' } });
    // As every workload does, this client trusts what the bundle holds now.
    const bundleFile = join(mesh.signet.data, 'bundle.pem');
    const client = (): TlsIdentity => mesh.client(readFileSync(bundleFile, 'utf8'));
    await using load = startLoad(web.target('h1'), client);
    await load.sawSerials(2);

    for (const [step, names] of [['new'], ['old']].entries()) {
      const said = await mesh.reload(using(...names));
      assert.match(said, /is in force/, said);
      const { anchors } = await askAdmin(mesh.signet.data, async (admin) => admin.status());
      assert.equal(anchors.length, 2, 'both roots are trusted while certificates under either are out there');
      await load.sawSerials(load.serials.length + 2);
      const filter = { spiffeId: web.id, instance: '', unexpired: true, limit: 1 };
      const newest = await askAdmin(mesh.signet.data, async (admin) => {
        for await (const [certificate] of admin.certificates(filter)) return certificate;
        return undefined;
      });
      assert.equal(newest?.authority, names[0], `step ${String(step)}`);
    }

    const report = await load.stop();
    t.diagnostic(describeLoad(report));
    assert.equal(report.failed, 0, describeLoad(report));
    assert.equal(certificatesFromPem(await mesh.bundle()).length, 2);
  });

  it('a configuration that takes a restart, or a CA that can not be opened, changes nothing and says why', async () => {
    await using files = await tempFolder();
    await using mesh = await startMesh({ leafTtl: '1h' });
    const before = await mesh.bundle();
    const refused = await mesh.reload({ log: { level: 'debug' }, limits: { streamsPerIdentity: 7 } });
    assert.match(refused, /a change of (log, limits|limits, log) takes a restart/);
    const missing = files.file('nowhere.pem');
    const broken = await mesh.reload({ ca: { backends: { other: { type: 'files', root: missing, key: missing } } } });
    assert.match(broken, /nowhere\.pem/);
    const typo = await mesh.reload({ ca: { backends: { other: { type: 'fils' } } } });
    assert.match(typo, /ca\.backends\.other\.type/);
    assert.equal(await mesh.bundle(), before);
    const page = await (await fetch(`http://${mesh.signet.http}/metrics`)).text();
    assert.match(page, /^signet_config_last_reload_successful 0$/m);
    await mesh.api('web').then(async (api) => {
      await api.credential();
      api.close();
    });
  });
});
