import assert from 'node:assert/strict';
import { createPublicKey, X509Certificate } from 'node:crypto';
import { describe, test } from 'node:test';
import * as asn1js from 'asn1js';
import fc from 'fast-check';
import * as pkijs from 'pkijs';
import { SignetError } from '../../../src/base/errors.ts';
import { parseSpiffeId } from '../../../src/spiffe/id.ts';
import { createCsr, parseCsr } from '../../../src/x509/csr.ts';
import { DerReader, tag } from '../../../src/x509/der-reader.ts';
import { bitString, der, oid, sequence, unsignedInteger } from '../../../src/x509/der-writer.ts';
import { encodeName } from '../../../src/x509/distinguished-name.ts';
import { basicConstraintsExtension, keyUsageExtension } from '../../../src/x509/extensions.ts';
import { generateKeyPair, type KeyPair, sha256Hex } from '../../../src/x509/keys.ts';
import { createLeafIssuer } from '../../../src/x509/leaf.ts';
import { extensionRequestOid, signatureOid } from '../../../src/x509/oids.ts';
import { pemEncode } from '../../../src/x509/pem.ts';
import {
  altNames,
  extensionRequest,
  type ForeignKey,
  foreignKey,
  forgeCsr,
  hour,
  noon,
  publicSpki,
  testCa,
  unknownExtension,
} from '../../support/forge.ts';

const web = 'spiffe://example.org/ns/shop/sa/web';
const p256 = generateKeyPair();
const p384 = generateKeyPair('ec-p384');
const csr = createCsr(p256, [web]);
const refused =
  (pattern: RegExp, code = 'INVALID_CSR') =>
  (error: unknown) =>
    error instanceof SignetError && error.code === code && pattern.test(error.message);

describe('a good request', () => {
  for (const pair of [p256, p384]) {
    test(`of ${pair.algorithm} gives its key and its names`, () => {
      const request = parseCsr(createCsr(pair, [web]));
      assert.equal(request.key.spkiSha256, pair.spkiSha256);
      assert.equal(request.key.algorithm, pair.algorithm);
      assert.deepEqual([request.uris, request.otherNames], [[web], []]);
    });
  }

  test('may be of RSA, have a subject, and ask for other extensions, which are ignored', () => {
    const attribute = extensionRequest(
      unknownExtension(true),
      altNames([[0x86, web]]),
      keyUsageExtension('digitalSignature'),
      basicConstraintsExtension(false),
    );
    const request = parseCsr(
      forgeCsr({ key: foreignKey('rsa-2048'), subject: encodeName('Shop', 'spiffe://example.org/admin'), attributes: [attribute] }),
    );
    assert.equal(request.key.bits, 2048);
    assert.deepEqual(request.uris, [web]);
  });

  test('may ask for no names at all', () => {
    assert.deepEqual(parseCsr(createCsr(p256, [])).uris, []);
    assert.deepEqual(parseCsr(forgeCsr({ key: p256.privateKey })).uris, []);
  });

  test('may come as PEM, in a string or in bytes, with either label', () => {
    for (const label of ['CERTIFICATE REQUEST', 'NEW CERTIFICATE REQUEST']) {
      const pem = pemEncode(label, csr);
      for (const input of [pem, Buffer.from(pem), `\r\n${pem.replaceAll('\n', '\r\n')}`]) assert.ok(parseCsr(input).der.equals(csr));
    }
  });

  test('by us is read alike by pkijs, which also finds its signature good', async () => {
    for (const pair of [p256, p384]) {
      const oracle = pkijs.CertificationRequest.fromBER(createCsr(pair, [web]));
      assert.equal(await oracle.verify(), true);
      assert.equal(sha256Hex(Buffer.from(oracle.subjectPublicKeyInfo.toSchema().toBER())), pair.spkiSha256);
      const [attribute] = oracle.attributes ?? [];
      const extensions = new pkijs.Extensions({ schema: attribute?.values[0] });
      const names = extensions.extensions[0]?.parsedValue as pkijs.AltName;
      assert.deepEqual(
        names.altNames.map((name) => [name.type, name.value as string]),
        [[6, web]],
      );
    }
  });

  test('by pkijs is read alike by us', async () => {
    const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
    const theirs = new pkijs.CertificationRequest();
    await theirs.subjectPublicKeyInfo.importKey(keys.publicKey);
    const names = new pkijs.GeneralNames({
      names: [new pkijs.GeneralName({ type: 6, value: web }), new pkijs.GeneralName({ type: 2, value: 'web.example.org' })],
    });
    const extension = new pkijs.Extension({ extnID: '2.5.29.17', extnValue: names.toSchema().toBER() });
    theirs.attributes = [
      new pkijs.Attribute({ type: '1.2.840.113549.1.9.14', values: [new pkijs.Extensions({ extensions: [extension] }).toSchema()] }),
    ];
    await theirs.sign(keys.privateKey, 'SHA-256');
    const request = parseCsr(Buffer.from(theirs.toSchema().toBER()));
    assert.deepEqual([request.uris, request.otherNames], [[web], ['DNS:web.example.org']]);
  });
});

describe('what a request may not be', () => {
  test('larger than 16 KiB, whatever is in it', () => {
    assert.throws(() => parseCsr(Buffer.alloc(1024 * 1024, 0x30)), refused(/larger/, 'TOO_LARGE'));
    assert.throws(() => parseCsr('A'.repeat(16 * 1024 + 1)), refused(/larger/, 'TOO_LARGE'));
    const many = Array.from({ length: 10_000 }, (_, i) => `spiffe://example.org/${String(i)}`);
    assert.throws(() => parseCsr(createCsr(p256, many)), refused(/larger/, 'TOO_LARGE'));
  });

  test('full of names, though small', () => {
    const names = Array.from({ length: 3000 }, () => [0x82, 'a'] as const);
    assert.throws(
      () => parseCsr(forgeCsr({ key: p256.privateKey, attributes: [extensionRequest(altNames(names))] })),
      refused(/more than 64 names/),
    );
  });

  test('cut short anywhere, or longer than itself', () => {
    for (let length = 0; length < csr.length; length++)
      assert.throws(() => parseCsr(csr.subarray(0, length)), refused(/./), String(length));
    assert.throws(() => parseCsr(Buffer.concat([csr, Buffer.of(0)])), refused(/behind/));
  });

  test('signed by another key, or not signed at all', () => {
    assert.throws(() => parseCsr(forgeCsr({ key: p256.privateKey, spki: generateKeyPair().spki })), refused(/not by the key/));
    assert.throws(() => parseCsr(forgeCsr({ key: p256.privateKey, spki: publicSpki(foreignKey('rsa-2048')) })), refused(/not by the key/));
    const body = new DerReader(csr, () => new SignetError('INTERNAL', '')).enter(tag.sequence);
    const unsigned = sequence(body.element(), body.element(), bitString(Buffer.alloc(0)));
    assert.throws(() => parseCsr(unsigned), refused(/not by the key/));
  });

  test("signed with SHA-1, or with an algorithm that is not its key's", () => {
    assert.throws(() => parseCsr(forgeCsr({ key: p256.privateKey, algorithm: '2a8648ce3d0401' })), refused(/ECDSA with SHA-1/));
    assert.throws(() => parseCsr(forgeCsr({ key: foreignKey('rsa-2048'), algorithm: '2a864886f70d010105' })), refused(/RSA with SHA-1/));
    assert.throws(() => parseCsr(forgeCsr({ key: p256.privateKey, algorithm: signatureOid.rsaSha256 })), refused(/not by the key/));
    assert.throws(() => parseCsr(forgeCsr({ key: p256.privateKey, algorithm: signatureOid.ecdsaSha384 })), refused(/not by the key/));
  });

  const weak: readonly (readonly [ForeignKey, RegExp])[] = [
    ['ed25519', /Ed25519/],
    ['x25519', /X25519/],
    ['P-224', /P-224/],
    ['P-521', /P-521/],
    ['secp256k1', /secp256k1/],
    ['rsa-1024', /1024 bits/],
  ];
  for (const [kind, pattern] of weak) {
    test(`of a key of the kind ${kind}`, () => {
      assert.throws(() => parseCsr(forgeCsr({ key: foreignKey(kind) })), refused(pattern));
    });
  }

  test('ambiguous about its names', () => {
    const named = altNames([[0x86, web]]);
    const other = altNames([[0x86, 'spiffe://example.org/admin']]);
    const attempts = [[extensionRequest(named), extensionRequest(other)], [extensionRequest(named, other)]];
    for (const attributes of attempts) assert.throws(() => parseCsr(forgeCsr({ key: p256.privateKey, attributes })), refused(/two/));
    const twoValues = sequence(oid(extensionRequestOid), der(tag.set, sequence(named), sequence(other)));
    assert.throws(() => parseCsr(forgeCsr({ key: p256.privateKey, attributes: [twoValues] })), refused(/behind/));
  });

  test('a request to be a CA, or of another version', () => {
    assert.throws(
      () => parseCsr(forgeCsr({ key: p256.privateKey, attributes: [extensionRequest(basicConstraintsExtension({}))] })),
      refused(/to be a CA/),
    );
    assert.throws(() => parseCsr(forgeCsr({ key: p256.privateKey, version: 1 })), refused(/version/));
  });

  test('with a NUL, a newline, anything unprintable or nothing at all in a name', () => {
    for (const name of [`${web}\0.evil`, `${web}\n`, 'spiffe://example.org/ü', '']) {
      assert.throws(
        () => parseCsr(forgeCsr({ key: p256.privateKey, attributes: [extensionRequest(altNames([[0x86, name]]))] })),
        refused(/printable/),
      );
    }
  });

  test('two PEM blocks, or a PEM block of something else', () => {
    const pem = pemEncode('CERTIFICATE REQUEST', csr);
    assert.throws(() => parseCsr(pem + pem), refused(/exactly one/));
    assert.throws(() => parseCsr(pemEncode('CERTIFICATE', csr)), refused(/PEM/));
    assert.throws(() => parseCsr(pem + pemEncode('PRIVATE KEY', csr)), refused(/PEM/));
    assert.throws(() => parseCsr(''), refused(/exactly one/));
  });
});

test('names of other kinds are told, shortened and bounded, for the refusal to name', () => {
  const names = altNames([
    [0x86, web],
    [0x82, 'web'],
    [0x81, 'a@example.org'],
    [0x87, '\x7f\x00\x00\x01'],
    [0x82, 'x'.repeat(500)],
    ...Array.from({ length: 20 }, () => [0x82, 'y'] as const),
  ]);
  const request = parseCsr(forgeCsr({ key: p256.privateKey, attributes: [extensionRequest(names)] }));
  assert.deepEqual(request.otherNames.slice(0, 3), ['DNS:web', 'email:a@example.org', 'IP:127.0.0.1']);
  assert.equal(request.otherNames.length, 8);
  assert.ok(request.otherNames.every((name) => name.length < 80));
});

/** Whatever a mutation of a CSR yields is refused, or has the original's key and names and no others. */
function assertSameOrRefused(input: Buffer | string, pair: KeyPair, uris: readonly string[]): boolean {
  let request;
  try {
    request = parseCsr(input);
  } catch (error) {
    assert.ok(error instanceof SignetError && (error.code === 'INVALID_CSR' || error.code === 'TOO_LARGE'), String(error));
    return false;
  }
  assert.equal(request.key.spkiSha256, pair.spkiSha256);
  assert.ok(request.key.spki.equals(pair.spki));
  assert.ok(request.key.publicKey.equals(createPublicKey(pair.privateKey)));
  assert.deepEqual([request.uris, request.otherNames], [uris, []]);
  return true;
}

describe('no mutation of a CSR changes its key or its names', () => {
  test('not one flipped bit, whichever', () => {
    for (let bit = 0; bit < csr.length * 8; bit++) {
      const changed = Buffer.from(csr);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.equal(assertSameOrRefused(changed, p256, [web]), false, `bit ${String(bit)}`);
    }
  });

  test('nor any splice of bytes, in DER or PEM', () => {
    const rsa = foreignKey('rsa-2048');
    const bases = [csr, createCsr(p384, [web]), Buffer.from(pemEncode('CERTIFICATE REQUEST', csr))];
    const donors = [
      csr,
      createCsr(p384, ['spiffe://example.org/admin']),
      createCsr(p256, ['spiffe://example.org/admin']),
      forgeCsr({ key: rsa }),
    ];
    const at = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(fc.nat(2), fc.nat(3), at, at, at, at, (which, whose, from, length, donorFrom, donorLength) => {
        const base = bases[which] ?? csr;
        const donor = donors[whose] ?? csr;
        const cut = Math.floor(from * base.length);
        const resume = Math.min(base.length, cut + Math.floor(length * length * 80));
        const take = Math.floor(donorFrom * donor.length);
        const changed = Buffer.concat([
          base.subarray(0, cut),
          donor.subarray(take, take + Math.floor(donorLength * donorLength * 80)),
          base.subarray(resume),
        ]);
        // A splice may turn one request into the other as a whole; then it is the donor's.
        if (donors.some((other) => other.equals(changed))) return;
        assertSameOrRefused(changed, which === 1 ? p384 : p256, [web]);
      }),
      { numRuns: 4000 },
    );
  });

  test('and what survives, a signature in its other form, makes the same certificate', async () => {
    const order = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551');
    const refuse = (): SignetError => new SignetError('INTERNAL', '');
    const body = new DerReader(csr, refuse).enter(tag.sequence);
    const [info, algorithm] = [body.element(), body.element()];
    const pair = new DerReader(body.octetsOfBits(), refuse).enter(tag.sequence);
    const r = pair.integer();
    const s = order - BigInt(`0x${pair.integer().toString('hex')}`);
    const twin = sequence(
      info,
      algorithm,
      bitString(sequence(unsignedInteger(r), unsignedInteger(Buffer.from(s.toString(16).padStart(64, '0'), 'hex')))),
    );
    assert.ok(!twin.equals(csr));
    assert.equal(assertSameOrRefused(twin, p256, [web]), true);

    const { ca } = await testCa();
    for (const input of [csr, twin]) {
      const { key, uris } = parseCsr(input);
      const { der } = await createLeafIssuer(ca).issue({
        spki: key.spki,
        spiffeId: parseSpiffeId(uris[0] ?? ''),
        notBefore: noon,
        notAfter: noon + hour,
      });
      const leaf = new X509Certificate(der);
      assert.ok(leaf.publicKey.equals(createPublicKey(p256.privateKey)));
      assert.equal(leaf.subjectAltName, `URI:${web}`);
    }
  });
});

test('random bytes are refused and nothing else happens', () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 400 }).map((data) => Buffer.from(data)),
    // Dressed up as far as the attributes, so that the walk gets there.
    fc.uint8Array({ maxLength: 200 }).map((data) => forgeCsr({ key: p256.privateKey, attributes: [extensionRequest(Buffer.from(data))] })),
    fc.uint8Array({ maxLength: 200 }).map((data) => forgeCsr({ key: p256.privateKey, attributes: [Buffer.from(data)] })),
  );
  fc.assert(
    fc.property(bytes, (input) => {
      try {
        parseCsr(input);
      } catch (error) {
        assert.ok(error instanceof SignetError && error.code === 'INVALID_CSR', String(error));
      }
    }),
    { numRuns: 2000 },
  );
});

test('what we take for DER, asn1js takes for DER', () => {
  assert.notEqual(asn1js.fromBER(csr).offset, -1);
});
