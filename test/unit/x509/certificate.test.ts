import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { before, describe, test } from 'node:test';
import fc from 'fast-check';
import { SignetError } from '../../../src/base/errors.ts';
import { parseSpiffeId } from '../../../src/spiffe/id.ts';
import { createIntermediateCertificate, createRootCertificate } from '../../../src/x509/ca-certificate.ts';
import { parseCertificate } from '../../../src/x509/certificate.ts';
import { der, sequence } from '../../../src/x509/der-writer.ts';
import { tag } from '../../../src/x509/der-reader.ts';
import { encodeName } from '../../../src/x509/distinguished-name.ts';
import { basicConstraintsExtension, encodeExtension, keyUsageExtension } from '../../../src/x509/extensions.ts';
import { localSigner } from '../../../src/x509/issuing-ca.ts';
import { generateKeyPair } from '../../../src/x509/keys.ts';
import { createLeafIssuer } from '../../../src/x509/leaf.ts';
import { createServerCertificate } from '../../../src/x509/server-certificate.ts';
import { altNames, day, forgeCertificate, hour, noon, testCa, type TestCa, unknownExtension } from '../../support/forge.ts';

const key = generateKeyPair();
const refused = (pattern: RegExp) => (error: unknown) =>
  error instanceof SignetError && error.code === 'INVALID_ARGUMENT' && pattern.test(error.message);
let ca: TestCa;
let leaf: Buffer;
before(async () => {
  ca = await testCa();
  ({ der: leaf } = await createLeafIssuer(ca.ca).issue({
    spki: key.spki,
    spiffeId: parseSpiffeId('spiffe://example.org/web'),
    notBefore: noon,
    notAfter: noon + hour,
  }));
});

describe('CA certificates', () => {
  test('a root is its own issuer, may sign certificates and CRLs, and names its trust domain', () => {
    const root = parseCertificate(ca.root);
    assert.ok(new X509Certificate(ca.root).verify(new X509Certificate(ca.root).publicKey));
    assert.deepEqual([root.isCa, root.pathLength, root.subjectText], [true, undefined, 'O=example.org, CN=Test Root']);
    assert.deepEqual([...(root.keyUsage ?? [])], ['keyCertSign', 'cRLSign']);
    assert.deepEqual(root.uris, ['spiffe://example.org']);
    assert.ok(root.issuer.equals(root.subject));
    assert.equal(root.authorityKeyId, root.subjectKeyId);
  });

  test('an intermediate is under its root and may sign leaves only', () => {
    const intermediate = parseCertificate(ca.intermediate);
    const node = new X509Certificate(ca.intermediate);
    assert.ok(node.verify(new X509Certificate(ca.root).publicKey) && node.checkIssued(new X509Certificate(ca.root)));
    assert.deepEqual([intermediate.isCa, intermediate.pathLength, intermediate.extendedKeyUsage], [true, 0, undefined]);
  });

  test('an intermediate may neither outlive its issuer nor stand where the path length allows none', async () => {
    const wish = { spki: key.spki, commonName: 'Below', organization: 'example.org', notBefore: noon, pathLength: 0 };
    await assert.rejects(createIntermediateCertificate({ ...wish, issuer: ca.rootCa, notAfter: noon + 9999 * day }), refused(/outlive/));
    await assert.rejects(createIntermediateCertificate({ ...wish, issuer: ca.ca, notAfter: noon + day }), refused(/path length/));
    const stranger = { certificate: ca.root, signer: localSigner(key.privateKey) };
    await assert.rejects(
      createIntermediateCertificate({ ...wish, issuer: stranger, notAfter: noon + day }),
      (error) => error instanceof SignetError && error.code === 'AUTHORITY_MISCONFIGURED',
    );
  });

  test('names of 1 to 64 characters only, as RFC 5280 bounds them', () => {
    const wish = { key, organization: 'o', notBefore: noon, notAfter: noon + day };
    assert.throws(() => createRootCertificate({ ...wish, commonName: '' }), refused(/64/));
    assert.throws(() => createRootCertificate({ ...wish, commonName: 'x'.repeat(65) }), refused(/64/));
  });
});

describe('the serving certificate', () => {
  test('has the DNS names, addresses and URIs it was asked for, and serves only', async () => {
    const serving = await createServerCertificate({
      ca: ca.rootCa,
      spki: key.spki,
      dnsNames: ['signet.infra.svc', 'localhost'],
      ipAddresses: ['127.0.0.1', '::1', '2001:db8::ffff:1.2.3.4'],
      uris: ['spiffe://example.org/signet/server'],
      notBefore: noon,
      notAfter: noon + day,
    });
    const node = new X509Certificate(serving);
    assert.equal(
      node.subjectAltName,
      'DNS:signet.infra.svc, DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, IP Address:2001:DB8:0:0:0:FFFF:102:304, URI:spiffe://example.org/signet/server',
    );
    assert.ok(
      node.checkHost('signet.infra.svc') !== undefined &&
        node.checkIP('::1') !== undefined &&
        node.checkIP('2001:db8::ffff:1.2.3.4') !== undefined,
    );
    assert.deepEqual(node.keyUsage, ['1.3.6.1.5.5.7.3.1']);
    assert.deepEqual(parseCertificate(serving).otherNames.length, 3);
  });

  test('is not made without a name, for a bad name, or past its CA', async () => {
    const wish = {
      ca: ca.rootCa,
      spki: key.spki,
      dnsNames: [] as string[],
      ipAddresses: [] as string[],
      uris: [] as string[],
      notBefore: noon,
      notAfter: noon + day,
    };
    await assert.rejects(createServerCertificate(wish), refused(/without a name/));
    for (const name of ['', 'a b', 'a..b', 'ü.example', 'x\0.example', 'x'.repeat(64)])
      await assert.rejects(createServerCertificate({ ...wish, dnsNames: [name] }), refused(/DNS name/), name);
    for (const address of ['', 'localhost', '1.2.3', '::g', 'fe80::1%eth0'])
      await assert.rejects(createServerCertificate({ ...wish, ipAddresses: [address] }), refused(/IP address/), address);
    await assert.rejects(createServerCertificate({ ...wish, uris: ['spiffe://ü'] }), refused(/URI/));
    await assert.rejects(createServerCertificate({ ...wish, dnsNames: ['a'], notAfter: noon + 9999 * day }), refused(/outlive/));
  });
});

describe('reading certificates', () => {
  const forged = (extensions: readonly Buffer[]): Buffer => forgeCertificate({ issuerKey: key.privateKey, spki: key.spki, extensions });

  test('an extension twice, an empty list of them, or odd contents are refused', () => {
    assert.throws(() => parseCertificate(forged([keyUsageExtension('keyCertSign'), keyUsageExtension('keyCertSign')])), refused(/twice/));
    assert.throws(() => parseCertificate(forged([])), refused(/empty list/));
    assert.throws(
      () => parseCertificate(forged([encodeExtension('551d13', true, sequence(der(tag.integer, Buffer.of(0))))])),
      refused(/path length without/),
    );
    assert.throws(
      () => parseCertificate(forged([encodeExtension('551d0f', true, der(tag.bitString, Buffer.of(1, 0x01)))])),
      refused(/key usage/),
    );
    assert.throws(() => parseCertificate(forged([encodeExtension('551d11', true, sequence())])), refused(/empty list of names/));
  });

  test('a critical extension that is not read is reported, for verifiers to refuse', () => {
    assert.deepEqual(parseCertificate(forged([unknownExtension(true)])).unknownCritical, ['2b0601040182371502']);
    assert.deepEqual(parseCertificate(forged([unknownExtension(false)])).unknownCritical, []);
  });

  test('a subject for people is bounded and printable', () => {
    const subject = encodeName('\u001b[31mred', '\u0000evil\n');
    const { subjectText } = parseCertificate(
      forgeCertificate({ issuerKey: key.privateKey, spki: key.spki, subject, extensions: [basicConstraintsExtension(false)] }),
    );
    assert.equal(subjectText, 'O=?[31mred, CN=?evil?');
  });

  test('more than 32 KiB are not even looked at', () => {
    assert.throws(
      () => parseCertificate(Buffer.alloc(32 * 1024 + 1)),
      (error) => error instanceof SignetError && error.code === 'TOO_LARGE',
    );
  });

  test('cut anywhere, a certificate is refused', () => {
    for (let length = 0; length < leaf.length; length++) assert.throws(() => parseCertificate(leaf.subarray(0, length)), refused(/./));
  });

  test('a damaged certificate is refused, or read as OpenSSL reads it', () => {
    const san = forged([
      altNames([
        [0x82, 'web.example.org'],
        [0x86, 'spiffe://example.org/web'],
      ]),
      basicConstraintsExtension({ pathLength: 3 }),
      keyUsageExtension('keyCertSign', 'cRLSign'),
    ]);
    let both = 0;
    fc.assert(
      fc.property(
        fc.constantFrom('leaf', 'root', 'san'),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        fc.integer({ min: 1, max: 255 }),
        (which, where, flip) => {
          const changed = Buffer.from(which === 'leaf' ? leaf : which === 'root' ? ca.root : san);
          const at = Math.floor(where * changed.length);
          changed[at] = (changed[at] ?? 0) ^ flip;
          let ours;
          try {
            ours = parseCertificate(changed);
          } catch (error) {
            assert.ok(error instanceof SignetError && error.code === 'INVALID_ARGUMENT', String(error));
            return;
          }
          let theirs;
          try {
            theirs = new X509Certificate(changed);
          } catch {
            return;
          }
          both++;
          assert.equal(ours.serial, theirs.serialNumber.toLowerCase().replace(/^-/, ''));
          assert.deepEqual([ours.notBefore, ours.notAfter], [Date.parse(theirs.validFrom), Date.parse(theirs.validTo)]);
          const names = [...ours.dnsNames.map((name) => `DNS:${name}`), ...ours.uris.map((uri) => `URI:${uri}`)];
          // OpenSSL quotes what holds a comma or a quote.
          if (theirs.subjectAltName?.includes('"') === false && ours.otherNames.length === 0)
            assert.equal(names.join(', '), theirs.subjectAltName);
        },
      ),
      { numRuns: 3000 },
    );
    assert.ok(both > 100, 'too few damaged certificates were readable to compare anything');
  });
});
