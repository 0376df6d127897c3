/** In key mode `csr` no private key crosses the network: everything said on it is recorded and searched. */
import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { eventually } from '../support/eventually.ts';
import { findPrivateKey, privateKeysIn } from '../support/key-detector.ts';
import { startMesh, trustDomain, type EnvoyWish, type Mesh, type Workload } from '../support/mesh.ts';
import { requestOnce } from '../support/mtls-request.ts';
import { foreignCa, foreignLeaf } from '../support/openssl.ts';
import { startRecordingProxy, type RecordingProxy } from '../support/recording-proxy.ts';
import { serverCa } from '../support/signet.ts';

async function proxied(mesh: Mesh, wish: EnvoyWish): Promise<{ workload: Workload; proxy: RecordingProxy }> {
  const ca = await foreignCa();
  const shown = await foreignLeaf(ca, { uri: `spiffe://${trustDomain}/signet/server`, ip: '127.0.0.1' });
  const proxy = await startRecordingProxy({ port: mesh.signet.grpcPort, ca: await serverCa(mesh.signet.data) }, shown);
  const workload = await mesh.workload({ ...wish, reachedBy: { port: proxy.port, ca: ca.certificate } });
  return { workload, proxy };
}

/** Waits for three certificates, each of which has crossed the wire. */
async function rotations(mesh: Mesh, workload: Workload): Promise<void> {
  const serials = new Set<string>();
  await eventually('three certificates', async () => {
    serials.add(await requestOnce(workload.target('h1'), mesh.client(), 10_000));
    return serials.size >= 3 ? true : undefined;
  });
}

function certificatesIn(recordings: readonly Buffer[]): number {
  return Math.max(...recordings.map((recording) => recording.toString('latin1').match(/BEGIN CERTIFICATE/g)?.length ?? 0));
}

describe('private keys and the wire', () => {
  for (const wish of [
    { serviceAccount: 'csr-web', auth: 'google-grpc-token', api: 'sotw' },
    { serviceAccount: 'csr-web', auth: 'envoy-grpc-token', api: 'delta' },
  ] as const) {
    it(`key mode csr, ${wish.api}: none is ever sent, in any form, either way`, async () => {
      await using mesh = await startMesh({ leafTtl: '8s' });
      const { workload, proxy } = await proxied(mesh, wish);
      await using _proxy = proxy;
      await rotations(mesh, workload);
      const keys = (await readdir(workload.keyFolder)).filter((name) => name.endsWith('.key'));
      assert.ok(keys.length >= 1);
      assert.ok(certificatesIn(proxy.fromServer()) >= 3, 'the chains were recorded');
      for (const name of keys) {
        const key = await readFile(join(workload.keyFolder, name), 'utf8');
        assert.deepEqual([...findPrivateKey(proxy.fromServer(), key)], []);
        assert.deepEqual([...findPrivateKey(proxy.fromClient(), key)], []);
      }
    });
  }

  it('key mode server: the detector fires', async () => {
    await using mesh = await startMesh({ leafTtl: '8s' });
    const { workload, proxy } = await proxied(mesh, { serviceAccount: 'web', auth: 'envoy-grpc-token', api: 'delta' });
    await using _proxy = proxy;
    await rotations(mesh, workload);
    const [key] = privateKeysIn(proxy.fromServer());
    assert.ok(key);
    const found = findPrivateKey(proxy.fromServer(), key);
    for (const form of ['base64', 'pkcs8', 'label'] as const) assert.ok(found.has(form), form);
    // It is the one: some certificate on the wire has its public half.
    const publicKey = createPublicKey(createPrivateKey(key)).export({ type: 'spki', format: 'der' });
    const certificates = proxy
      .fromServer()
      .flatMap((recording) => recording.toString('latin1').match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []);
    assert.ok(certificates.some((pem) => new X509Certificate(pem).publicKey.export({ type: 'spki', format: 'der' }).equals(publicKey)));
  });

  it('the detector finds a scalar at every alignment and in every form', () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    const scalar = Buffer.from(privateKey.export({ format: 'jwk' }).d ?? '', 'base64url');
    for (const before of [0, 1, 2, 3, 4]) {
      for (const behind of [0, 1, 2]) {
        const around = Buffer.concat([Buffer.alloc(before, 0xa5), scalar, Buffer.alloc(behind, 0x5a)]);
        assert.ok(
          findPrivateKey([Buffer.from(around.toString('base64'))], pem).has('base64'),
          `${String(before)} before, ${String(behind)} behind`,
        );
        assert.ok(findPrivateKey([Buffer.from(around.toString('base64url'))], pem).size > 0);
        assert.ok(findPrivateKey([Buffer.from(around.toString('hex'))], pem).has('hex'));
        assert.ok(findPrivateKey([around], pem).has('binary'));
      }
    }
    assert.deepEqual([...findPrivateKey([Buffer.alloc(10_000, 0x41)], pem)], []);
  });
});
