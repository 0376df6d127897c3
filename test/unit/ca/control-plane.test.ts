import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import { connect, createServer } from 'node:tls';
import { systemClock } from '../../../src/base/clock.ts';
import { SignetError } from '../../../src/base/errors.ts';
import { openControlPlaneCa } from '../../../src/ca/control-plane.ts';
import { keySealFromKey, newKeyEncryptionKey } from '../../../src/ca/key-seal.ts';
import { parseTrustDomain } from '../../../src/spiffe/id.ts';
import { parseCertificate } from '../../../src/x509/certificate.ts';
import { certificatesFromPem } from '../../../src/x509/pem.ts';
import { memoryCaState } from '../../support/memory-ca-state.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';

const trustDomain = parseTrustDomain('example.org');
const names = { dnsNames: ['localhost', 'signet.example.org'], ipAddresses: ['127.0.0.1', '::1'] };

function options() {
  return { trustDomain, state: memoryCaState(), seal: keySealFromKey(newKeyEncryptionKey()), clock: systemClock };
}

describe('the control-plane CA', () => {
  it('issues a certificate that a TLS client which pins its root accepts, by DNS name and by address', async () => {
    const ca = await openControlPlaneCa(options());
    const { certificatePem, keyPem } = await ca.issueServing(names);
    const server = createServer({ cert: certificatePem, key: keyPem }, (socket) => socket.end('hello'));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      for (const servername of ['localhost', 'signet.example.org', undefined]) {
        const socket = connect({
          host: '127.0.0.1',
          port: (server.address() as AddressInfo).port,
          ca: ca.rootPem,
          ...(servername === undefined ? {} : { servername }),
        });
        await once(socket, 'secureConnect');
        assert.equal(socket.authorized, true);
        socket.destroy();
      }
    } finally {
      server.close();
    }
  });

  it('shows its root at the end of the chain, names the server by SPIFFE ID, and serves only', async () => {
    const clock = simulatedClock();
    const ca = await openControlPlaneCa({ ...options(), clock });
    const { certificatePem, notAfter } = await ca.issueServing(names);
    const [leaf, root, ...rest] = certificatesFromPem(certificatePem).map(parseCertificate);
    assert.ok(leaf && root);
    assert.deepEqual(rest, []);
    assert.deepEqual(root.der, ca.rootDer);
    assert.deepEqual(leaf.uris, ['spiffe://example.org/signet/server']);
    assert.deepEqual(leaf.dnsNames, names.dnsNames);
    assert.deepEqual(new X509Certificate(leaf.der).keyUsage, ['1.3.6.1.5.5.7.3.1']);
    assert.deepEqual([leaf.notBefore, leaf.notAfter], [clock.now() - 3_600_000, notAfter]);
    assert.equal(root.notAfter, clock.now() + 10 * 365 * 86_400_000);
    // Without a SPIFFE ID it can't be taken for a trust domain's signing certificate.
    assert.deepEqual(root.uris, []);
  });

  it('is the same after a restart and for replicas that start together; each serving key is new', async () => {
    const same = options();
    const [one, two] = await Promise.all([openControlPlaneCa(same), openControlPlaneCa(same)]);
    const later = await openControlPlaneCa(same);
    assert.equal(one.rootPem, two.rootPem);
    assert.equal(one.rootPem, later.rootPem);
    assert.notEqual((await one.issueServing(names)).keyPem, (await one.issueServing(names)).keyPem);
  });

  it('is refused with another key-encryption key, another trust domain or damaged state', async () => {
    const same = options();
    await openControlPlaneCa(same);
    const code = (expected: string) => (error: unknown) => error instanceof SignetError && error.code === expected;
    await assert.rejects(openControlPlaneCa({ ...same, seal: keySealFromKey(newKeyEncryptionKey()) }), code('KEY_UNSEALABLE'));
    await assert.rejects(openControlPlaneCa({ ...same, trustDomain: parseTrustDomain('other.org') }), code('STORE_MISMATCH'));
    const document = same.state.documents.get('ca/control-plane');
    assert.ok(document);
    document.value = Buffer.from('{}');
    await assert.rejects(openControlPlaneCa(same), code('STORE_CORRUPT'));
  });
});
