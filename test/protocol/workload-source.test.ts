import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import type { SignetError } from '../../src/base/errors.ts';
import { X509Source } from '../../src/workload/index.ts';
import type { X509Context } from '../../src/workload/index.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { eventually } from '../support/eventually.ts';
import { failureOf } from '../support/failure.ts';
import { tempFolder } from '../support/temp.ts';
import { startWorkloadApi, testTrustDomain } from '../support/workload-world.ts';

const td = 'spiffe://test.example';
const web = `${td}/ns/shop/sa/web`;

async function nextUpdate(source: X509Source): Promise<X509Context> {
  const [context] = (await once(source, 'update', { signal: AbortSignal.timeout(20_000) })) as [X509Context];
  return context;
}

describe('an X509Source', () => {
  it('has the identity, key, bundles and revocation lists of its workload once it is open', async () => {
    const partner = await testTrustDomain('partner.example');
    await using world = await startWorkloadApi({
      federated: [partner],
      identities: { '/ns/shop/sa/web': 'internal', '/ns/shop/sa/x': '' },
    });
    using source = await X509Source.open({ socketPath: world.endpoint });
    const state = world.source.x509();
    assert.ok(typeof state === 'object');
    const { svid } = source;
    assert.equal(svid.spiffeId, web);
    assert.equal(svid.hint, 'internal');
    assert.deepEqual(svid.certificates, state.svids[0].chain);
    assert.equal(svid.serialNumber, parseCertificate(state.svids[0].chain[0]).serial);
    assert.ok(svid.expiresAt > Date.now());
    assert.ok(svid.privateKey.equals(createPrivateKey({ key: state.svids[0].keyPkcs8, format: 'der', type: 'pkcs8' })));
    assert.equal(source.context.svids.length, 2);
    assert.deepEqual(source.bundle(td), [world.trustDomain.authority.root]);
    assert.deepEqual(source.bundle(partner.name), [partner.authority.root]);
    assert.equal(source.bundle('spiffe://stranger.example'), undefined);
  });

  it('finds the socket by SPIFFE_ENDPOINT_SOCKET', async () => {
    await using world = await startWorkloadApi();
    const before = process.env['SPIFFE_ENDPOINT_SOCKET'];
    process.env['SPIFFE_ENDPOINT_SOCKET'] = world.endpoint;
    try {
      using source = await X509Source.open();
      assert.equal(source.svid.spiffeId, web);
    } finally {
      if (before === undefined) delete process.env['SPIFFE_ENDPOINT_SOCKET'];
      else process.env['SPIFFE_ENDPOINT_SOCKET'] = before;
    }
  });

  it('tells of each rotation', async () => {
    await using world = await startWorkloadApi();
    using source = await X509Source.open({ socketPath: world.socket });
    for (let i = 0; i < 3; i++) {
      const update = nextUpdate(source);
      const state = await world.rotate();
      assert.deepEqual((await update).svids[0].certificates, state.svids[0].chain);
      assert.deepEqual(source.svid.certificates, state.svids[0].chain);
    }
  });

  it('keeps what it has when it is sent what can not be used, and says so without the key', async () => {
    const stranger = await testTrustDomain('test.example');
    await using world = await startWorkloadApi();
    using source = await X509Source.open({ socketPath: world.socket });
    const before = source.context;
    const good = world.source.x509();
    assert.ok(typeof good === 'object');
    const [svid] = good.svids;
    const other = await world.trustDomain.svid('/ns/shop/sa/web');
    const bad = [
      { ...good, svids: [{ ...svid, keyPkcs8: other.keyPkcs8 }] as const },
      { ...good, svids: [{ ...svid, keyPkcs8: Buffer.from('no key') }] as const },
      { ...good, svids: [{ ...svid, chain: [Buffer.from('3000', 'hex')] as const }] as const },
      { ...good, svids: [{ ...svid, spiffeId: `${td}/ns/shop/sa/other` }] as const },
      // Signed by a CA that the bundle doesn't have.
      { ...good, bundles: new Map([[td, [stranger.authority.root]]]) },
      { ...good, svids: [await world.trustDomain.svid('/ns/shop/sa/web', { lifeMs: -1000 })] as const },
    ];
    for (const state of bad) {
      const warning = once(source, 'warning', { signal: AbortSignal.timeout(20_000) });
      world.source.setX509(state);
      const [error] = (await warning) as [Error];
      assert.match(error.message, /what the Workload API sent is not usable|certificate/);
      assert.ok(!`${error.message}${String(error.cause)}`.includes('no key'));
      assert.equal(source.context, before);
    }
    const update = nextUpdate(source);
    await world.rotate();
    await update;
  });

  it('comes back by itself after an outage, and serves what it has meanwhile', async () => {
    await using world = await startWorkloadApi();
    using source = await X509Source.open({ socketPath: world.socket });
    const before = source.svid;
    const warning = once(source, 'warning', { signal: AbortSignal.timeout(20_000) });
    await world.stop();
    const [error] = (await warning) as [SignetError];
    assert.equal(error.code, 'AUTHORITY_UNAVAILABLE');
    assert.match(error.message, /workload\.sock is not to be had: UNAVAILABLE/);
    assert.equal(source.svid, before);
    const state = await world.rotate();
    await world.restart();
    await eventually('the new identity', () => (source.svid.certificates[0].equals(state.svids[0].chain[0]) ? true : undefined));
  });

  it('waits for an identity that is still being made', async () => {
    await using world = await startWorkloadApi({ empty: true });
    const opening = X509Source.open({ socketPath: world.socket });
    await eventually('a refusal', () => (world.log.lines.some(({ message }) => message.includes('refused')) ? true : undefined));
    await world.rotate();
    using source = await opening;
    assert.equal(source.svid.spiffeId, web);
  });

  it('gives up opening after its time, or when told to, and says where it looked and what was wrong', async () => {
    await using folder = await tempFolder();
    const socketPath = folder.file('nobody.sock');
    const late = await failureOf(X509Source.open({ socketPath, timeoutMs: 300 }));
    assert.equal(late.code, 'DEADLINE_EXCEEDED');
    assert.match(late.message, /nobody\.sock: is its agent running\?/);
    assert.match(String(late.cause), /UNAVAILABLE/);
    const controller = new AbortController();
    const opening = X509Source.open({ socketPath, signal: controller.signal });
    controller.abort();
    assert.equal((await failureOf(opening)).code, 'CANCELLED');
    assert.equal((await failureOf(X509Source.open({ socketPath: 'tcp://127.0.0.1:1' }))).code, 'CONFIG_INVALID');
  });

  it('is gone from the agent once it is closed, and connects no more', async () => {
    await using world = await startWorkloadApi();
    const source = await X509Source.open({ socketPath: world.socket });
    const closed = once(source, 'close');
    source.on('warning', (error) => {
      assert.fail(error);
    });
    source.close();
    source.close();
    await closed;
    await eventually('the stream to end', () => (world.service.streamCount === 0 ? true : undefined));
    assert.equal(source.svid.spiffeId, web);
  });
});
