import assert from 'node:assert/strict';
import { createPublicKey, X509Certificate } from 'node:crypto';
import { before, describe, test } from 'node:test';
import fc from 'fast-check';
import * as pkijs from 'pkijs';
import { SignetError } from '../../../src/base/errors.ts';
import { parseSpiffeId, spiffeId, parseTrustDomain } from '../../../src/spiffe/id.ts';
import { createRootCertificate } from '../../../src/x509/ca-certificate.ts';
import { parseCertificate } from '../../../src/x509/certificate.ts';
import { type IssuingCa, localSigner } from '../../../src/x509/issuing-ca.ts';
import { generateKeyPair, sha256Hex, spkiOf } from '../../../src/x509/keys.ts';
import { createLeafIssuer } from '../../../src/x509/leaf.ts';
import { purposeOid } from '../../../src/x509/oids.ts';
import { foreignKey, hour, noon, publicSpki, testCa, type TestCa } from '../../support/forge.ts';
import { basicConstraintsExtension, keyUsageExtension } from '../../../src/x509/extensions.ts';
import { forgeCertificate } from '../../support/forge.ts';

const web = parseSpiffeId('spiffe://example.org/ns/shop/sa/web');
const keys = [generateKeyPair().spki, generateKeyPair('ec-p384').spki, publicSpki(foreignKey('rsa-2048'))];
let test1: TestCa;
before(async () => {
  test1 = await testCa();
});

/** Everything that pkijs, which shares no line with our reader and writer, sees in a certificate. */
function oracle(der: Buffer): { certificate: pkijs.Certificate; extension: (oid: string) => pkijs.Extension } {
  const certificate = pkijs.Certificate.fromBER(der);
  return {
    certificate,
    extension(oid) {
      const found = certificate.extensions?.filter((extension) => extension.extnID === oid) ?? [];
      assert.equal(found.length, 1, oid);
      const [only] = found;
      assert.ok(only);
      return only;
    },
  };
}

const hexOf = (value: ArrayBuffer | undefined): string => Buffer.from(value ?? new ArrayBuffer(0)).toString('hex');

describe('a leaf', () => {
  const segment = fc.stringMatching(/^[a-zA-Z0-9._-]{1,40}$/).filter((text) => text !== '.' && text !== '..');
  const names = fc.oneof(
    { weight: 9, arbitrary: fc.tuple(fc.stringMatching(/^[a-z0-9._-]{1,60}$/), fc.array(segment, { minLength: 1, maxLength: 8 })) },
    // The lengths around which DER's length octets change.
    {
      weight: 1,
      arbitrary: fc.tuple(
        fc.constant('td'),
        fc.constantFrom(100, 112, 113, 114, 115, 116, 117, 238, 240, 245, 1000, 2000).map((n) => ['x'.repeat(n)]),
      ),
    },
  );
  const seconds = fc.integer({ min: 0, max: 3649 * 86_400 });

  test('says what was asked for and nothing else, for any name, key and dates: pkijs and node:crypto agree', async () => {
    const long = createRootCertificate({
      key: test1.rootKey,
      commonName: 'Long',
      organization: 'example.org',
      notBefore: noon,
      notAfter: Date.UTC(2070, 0, 1),
    });
    const issuers = [
      createLeafIssuer(test1.rootCa),
      createLeafIssuer({ certificate: long, signer: localSigner(test1.rootKey.privateKey) }),
    ];
    const cas = [test1.root, long];
    await fc.assert(
      fc.asyncProperty(names, fc.nat(2), fc.nat(1), seconds, seconds, fc.nat(999), async ([domain, path], which, whose, a, b, more) => {
        const id = spiffeId(parseTrustDomain(domain), path);
        const spki = keys[which] ?? Buffer.alloc(0);
        // The second CA lives past 2050, where GeneralizedTime begins.
        const start = whose === 0 ? noon : Date.UTC(2045, 0, 1);
        const [notBefore, notAfter] = [start + Math.min(a, b) * 1000, start + Math.max(a, b) * 1000];
        // Whole seconds count.
        const late = { notBefore: notBefore + more, notAfter: notAfter + more };
        const built = await issuers[whose]?.issue({ spki, spiffeId: id, ...late });
        assert.ok(built);
        const { der } = built;

        const node = new X509Certificate(der);
        const ca = new X509Certificate(cas[whose] ?? '');
        assert.ok(node.verify(ca.publicKey));
        assert.equal(node.issuer, ca.subject);
        assert.equal(node.ca, false);
        assert.ok(node.publicKey.equals(createPublicKey({ key: spki, format: 'der', type: 'spki' })));
        assert.equal(node.subjectAltName, `URI:${id}`);
        assert.equal(Date.parse(node.validFrom), notBefore);
        assert.equal(Date.parse(node.validTo), notAfter);

        const { certificate, extension } = oracle(der);
        assert.equal(certificate.version, 2);
        assert.equal(certificate.subject.typesAndValues.length, 0);
        assert.equal(certificate.notAfter.type, notAfter < Date.UTC(2050, 0, 1) ? 0 : 1);
        assert.equal(certificate.extensions?.length, 6);
        const san = extension('2.5.29.17');
        assert.ok(san.critical);
        assert.deepEqual(
          (san.parsedValue as pkijs.AltName).altNames.map((name) => [name.type, name.value as string]),
          [[6, id]],
        );

        const ours = parseCertificate(der);
        // The pipeline does not read it again: what its issuer says of it has to be what is in it.
        assert.deepEqual(built, ours);
        assert.deepEqual(
          [ours.uris, ours.notBefore, ours.notAfter, ours.isCa, ours.spkiSha256, ours.serial],
          [[id], notBefore, notAfter, false, sha256Hex(spki), node.serialNumber.toLowerCase()],
        );
        // Nothing follows that a lenient parser would skip.
        assert.ok(Buffer.from(certificate.toSchema(false).toBER()).equals(der));
      }),
      { numRuns: 120 },
    );
  });

  test('has the profile of an X.509-SVID: usages, identifiers, critical where they must be', async () => {
    for (const [which, usage] of [
      [0, '80'],
      [1, '80'],
      [2, 'a0'],
    ] as const) {
      const { der } = await createLeafIssuer(test1.ca).issue({
        spki: keys[which] ?? Buffer.alloc(0),
        spiffeId: web,
        notBefore: noon,
        notAfter: noon + hour,
      });
      const { extension } = oracle(der);
      const keyUsage = extension('2.5.29.15');
      assert.ok(keyUsage.critical);
      // digitalSignature is bit 0, keyEncipherment bit 2.
      assert.equal(hexOf((keyUsage.parsedValue as { valueBlock: { valueHex: ArrayBuffer } }).valueBlock.valueHex), usage);
      assert.deepEqual((extension('2.5.29.37').parsedValue as pkijs.ExtKeyUsage).keyPurposes, ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
      assert.equal((extension('2.5.29.19').parsedValue as pkijs.BasicConstraints).cA, false);
      const ours = parseCertificate(der);
      assert.equal(ours.authorityKeyId, parseCertificate(test1.intermediate).subjectKeyId);
      assert.equal(
        hexOf((extension('2.5.29.35').parsedValue as pkijs.AuthorityKeyIdentifier).keyIdentifier?.valueBlock.valueHexView.slice().buffer),
        ours.authorityKeyId,
      );
      assert.equal(ours.subjectKeyId?.length, 40);
      assert.deepEqual(ours.extendedKeyUsage, [purposeOid.serverAuth, purposeOid.clientAuth]);
      assert.equal(createLeafIssuer(test1.ca).keyId, ours.authorityKeyId);
    }
  });

  test('has a serial of 16 octets, positive, and never the same twice', async () => {
    const issuer = createLeafIssuer(test1.ca);
    const serials = new Set<string>();
    for (let i = 0; i < 1200; i++) {
      const { serial } = await issuer.issue({ spki: keys[0] ?? Buffer.alloc(0), spiffeId: web, notBefore: noon, notAfter: noon + hour });
      assert.match(serial, /^[0-7][0-9a-f]{31}$/);
      assert.ok(!serial.startsWith('00'));
      serials.add(serial);
    }
    assert.equal(serials.size, 1200);
  });

  test('takes a given serial if it is positive and minimal', async () => {
    const issuer = createLeafIssuer(test1.ca);
    const request = { spki: keys[0] ?? Buffer.alloc(0), spiffeId: web, notBefore: noon, notAfter: noon + hour };
    for (let i = 0; i < 2; i++) {
      const { der, serial } = await issuer.issue({ ...request, serial: Buffer.of(0, 0xff) });
      assert.deepEqual([serial, parseCertificate(der).serial], ['ff', 'ff']);
    }
    for (const serial of [Buffer.alloc(0), Buffer.of(0), Buffer.of(0x80), Buffer.of(0, 1), Buffer.alloc(21, 1)]) {
      assert.throws(() => issuer.issue({ ...request, serial }), SignetError);
    }
  });

  test('may not outlive its CA, but may begin before it', async () => {
    const issuer = createLeafIssuer(test1.ca);
    const ca = parseCertificate(test1.intermediate);
    const request = { spki: keys[0] ?? Buffer.alloc(0), spiffeId: web };
    const { der } = await issuer.issue({ ...request, notBefore: ca.notBefore - hour, notAfter: ca.notAfter });
    assert.equal(parseCertificate(der).notAfter, ca.notAfter);
    assert.throws(() => issuer.issue({ ...request, notBefore: noon, notAfter: ca.notAfter + 1 }), /not after its issuer/);
    assert.throws(() => issuer.issue({ ...request, notBefore: noon, notAfter: noon - 1 }), SignetError);
    assert.throws(() => issuer.issue({ ...request, notBefore: Number.NaN, notAfter: noon }), SignetError);
  });
});

describe('an issuing CA', () => {
  const request = { spki: keys[0] ?? Buffer.alloc(0), spiffeId: web, notBefore: noon, notAfter: noon + hour };

  test('may sign with RSA, P-384 or P-521, and by a signer that takes its time', async () => {
    for (const key of [foreignKey('rsa-2048'), foreignKey('P-521'), generateKeyPair('ec-p384').privateKey]) {
      const certificate = forgeCertificate({
        issuerKey: key,
        issuerName: 'root',
        subjectName: 'root',
        spki: spkiOf(key),
        extensions: [keyUsageExtension('keyCertSign'), basicConstraintsExtension({})],
      });
      const signer = localSigner(key);
      const late: IssuingCa = {
        certificate,
        signer: { algorithm: signer.algorithm, sign: async (tbs) => Promise.resolve(signer.sign(tbs)) },
      };
      const leaf = new X509Certificate((await createLeafIssuer(late).issue(request)).der);
      assert.ok(leaf.verify(createPublicKey(key)));
      // The CA has no key identifier of its own; the leaf's AKI is then derived from its key.
      assert.match(createLeafIssuer(late).keyId, /^[0-9a-f]{40}$/);
    }
  });

  test('whose key is not that of its certificate hands nothing out', async () => {
    const stranger = generateKeyPair().privateKey;
    const misconfigured = (error: unknown): boolean => error instanceof SignetError && error.code === 'AUTHORITY_MISCONFIGURED';
    const issuer = createLeafIssuer({ certificate: test1.intermediate, signer: localSigner(stranger) });
    assert.throws(() => issuer.issue(request), misconfigured);
    assert.throws(() => issuer.issue(request), misconfigured);
    const late = createLeafIssuer({
      certificate: test1.intermediate,
      signer: { algorithm: 'ecdsa-sha256', sign: async (tbs) => Promise.resolve(localSigner(stranger).sign(tbs)) },
    });
    await assert.rejects(async () => late.issue(request), misconfigured);
  });

  test('must be a CA by its certificate, and have a key that signs', async () => {
    const { der: leaf } = await createLeafIssuer(test1.ca).issue(request);
    assert.throws(() => createLeafIssuer({ certificate: leaf, signer: localSigner(test1.key.privateKey) }), /not the certificate of a CA/);
    for (const kind of ['rsa-1024', 'ed25519', 'P-224', 'secp256k1'] as const)
      assert.throws(() => localSigner(foreignKey(kind)), SignetError);
    assert.throws(() => localSigner(createPublicKey(test1.key.privateKey)), SignetError);
  });
});
