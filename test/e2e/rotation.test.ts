/** The promise of the whole: certificates and trust change under traffic, and nobody notices. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, it } from 'node:test';
import { describeLoad, startLoad } from '../support/load.ts';
import { idOf, startMesh, trustDomain } from '../support/mesh.ts';
import { eventually } from '../support/eventually.ts';
import { startFileSdsEnvoy } from '../support/file-sds-envoy.ts';
import { tlsIdentity } from '../support/mtls-request.ts';
import { foreignCa, foreignLeaf } from '../support/openssl.ts';
import { rotationStory, assertOnRecord } from '../support/rotation-story.ts';
import { signetDone, signetVerb } from '../support/signet.ts';

describe('rotation under load', () => {
  it('state of the world, HTTP/1.1, token by google_grpc, keys by the server, Envoy 1.40', async (t) => {
    const extraRoots = (await foreignCa()).certificate;
    await using mesh = await startMesh({ leafTtl: '8s', extraRoots });
    await rotationStory(t, mesh, {
      envoy: { serviceAccount: 'web', api: 'sotw', version: '1.40.0' },
      http: 'h1',
      rotations: 4,
      bundles: true,
    });
  });

  it('Delta, HTTP/2, token by the credential injector, key on the host, Envoy 1.36', async (t) => {
    const extraRoots = (await foreignCa()).certificate;
    await using mesh = await startMesh({ leafTtl: '8s', extraRoots });
    const envoy = { serviceAccount: 'csr-web', auth: 'envoy-grpc-token', api: 'delta', version: '1.36.4' } as const;
    await rotationStory(t, mesh, { envoy, http: 'h2', rotations: 4, bundles: true });
  });

  it("state of the world, HTTP/1.1, an agent's socket, Envoy 1.36", async (t) => {
    const extraRoots = (await foreignCa()).certificate;
    await using mesh = await startMesh({ leafTtl: '8s', extraRoots });
    const envoy = { serviceAccount: 'web', auth: 'agent', api: 'sotw', version: '1.36.4' } as const;
    await rotationStory(t, mesh, { envoy, http: 'h1', rotations: 5, bundles: true });
  });

  it('`signet certs renew` issues and pushes at once', async () => {
    await using mesh = await startMesh({ leafTtl: '1h' });
    const web = await mesh.workload({ serviceAccount: 'web', api: 'delta' });
    const load = startLoad(web.target('h1'), () => mesh.client());
    for (let n = 1; n <= 4; n++) {
      await load.sawSerials(n, 20_000);
      await signetDone(['certs', 'renew', '--data', mesh.signet.data, '--identity', web.id]);
    }
    await load.sawSerials(5, 20_000);
    const report = await load.stop();
    assert.equal(report.failed, 0, describeLoad(report));
    await assertOnRecord(mesh, report.serials);
  });

  it('`signet csr --watch` replaces the key before it is too old, and nobody notices', async (t) => {
    const keyModes = (folder: string): object[] => [
      { match: '/ns/shop/sa/csr-*', mode: 'csr', keyDirectories: [folder], keyMaxAge: '30s' },
    ];
    await using mesh = await startMesh({ leafTtl: '10s', keyModes });
    const web = await mesh.workload({ serviceAccount: 'csr-web', api: 'delta', auth: 'envoy-grpc-token' });
    const files = ['--token-file', web.tokenFile, '--key-dir', web.keyFolder, '--ca', join(web.folder, 'server-ca.pem'), '--keep', '10s'];
    const keys = async (): Promise<readonly string[]> => (await readdir(web.keyFolder)).filter((name) => name.endsWith('.key'));
    const [first] = await keys();
    await using watching = signetVerb(['csr', '--server', mesh.signet.grpc, ...files, '--watch']);
    const load = startLoad(web.target('h1'), () => mesh.client());
    const replaced = async (): Promise<true | undefined> => {
      const now = await keys();
      return first !== undefined && now.length > 0 && !now.includes(first) ? true : undefined;
    };
    await eventually('the first key gone for another', replaced, 90_000, 200).catch((error: unknown) => {
      throw new Error(watching.output(), { cause: error });
    });
    await load.sawSerials(load.serials.length + 1);
    const report = await load.stop();
    t.diagnostic(describeLoad(report));
    assert.equal(report.failed, 0, describeLoad(report));
  });

  it('two hosts of one service account rotate side by side, each with a key of its own', async (t) => {
    await using mesh = await startMesh({ leafTtl: '8s' });
    const hosts = [
      await mesh.workload({ serviceAccount: 'csr-web', pod: 'csr-web-a' }),
      await mesh.workload({ serviceAccount: 'csr-web', pod: 'csr-web-b', api: 'delta', auth: 'envoy-grpc-token' }),
    ];
    const loads = hosts.map((host) => startLoad(host.target('h1'), () => mesh.client()));
    await Promise.all(loads.map(async (load) => load.sawSerials(4)));
    const reports = await Promise.all(loads.map(async (load) => load.stop()));
    for (const report of reports) {
      t.diagnostic(describeLoad(report));
      assert.equal(report.failed, 0, describeLoad(report));
    }
    const [a, b] = reports.map((report) => new Set(report.serials));
    assert.ok(a && b && [...a].every((serial) => !b.has(serial)), 'a certificate belongs to one host');
  });
});

describe('the load that every "0 failed" means', () => {
  it('fails when the identity pushed is one that nobody trusts', async (t) => {
    const [ca, other] = [await foreignCa(), await foreignCa('Other')];
    const uri = idOf('web');
    const [good, bad, client] = await Promise.all([
      foreignLeaf(ca, { uri }),
      foreignLeaf(other, { uri }),
      foreignLeaf(ca, { uri: idOf('client') }),
    ]);
    await using served = await startFileSdsEnvoy(
      { identity: { chain: good.certificate, key: good.key }, anchors: ca.certificate },
      { trustDomain },
    );
    await served.envoy.ready();
    const load = startLoad({ port: await served.envoy.port('inbound'), peer: uri, http: 'h1' }, () => tlsIdentity(client, ca.certificate));
    await load.sawSerials(1);
    assert.equal(load.failed, 0);
    assert.equal(await served.put('default', { chain: bad.certificate, key: bad.key }), 'taken');
    await sleep(500);
    assert.equal(await served.put('default', { chain: good.certificate, key: good.key }), 'taken');
    const report = await load.stop();
    t.diagnostic(describeLoad(report));
    assert.ok(report.failed > 0, 'the load did not notice');
    assert.ok(report.longestGapMs >= 500, 'nor did it see the gap');
  });

  it('fails when the bundle pushed leaves its own root out', async () => {
    const [ca, other] = [await foreignCa(), await foreignCa('Other')];
    const uri = idOf('web');
    const [good, client] = await Promise.all([foreignLeaf(ca, { uri }), foreignLeaf(ca, { uri: idOf('client') })]);
    await using served = await startFileSdsEnvoy(
      { identity: { chain: good.certificate, key: good.key }, anchors: ca.certificate },
      { trustDomain },
    );
    await served.envoy.ready();
    const load = startLoad({ port: await served.envoy.port('inbound'), peer: uri, http: 'h2' }, () => tlsIdentity(client, ca.certificate));
    await load.sawSerials(1);
    assert.equal(await served.put('ROOTCA', { anchors: other.certificate }), 'taken');
    await sleep(300);
    const report = await load.stop();
    assert.ok(report.failed > 0, 'the load did not notice');
  });
});
