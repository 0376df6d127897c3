import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { SignetError } from '../../../src/base/errors.ts';
import { tag } from '../../../src/x509/der-reader.ts';
import { bitString, der, oid, sequence, unsignedInteger } from '../../../src/x509/der-writer.ts';
import { generateKeyPair, importKeyPair, importPrivateKey, parseSubjectKey, privateKeyPem, spkiOf } from '../../../src/x509/keys.ts';
import { curveOid, keyOid } from '../../../src/x509/oids.ts';
import { type ForeignKey, foreignKey, publicSpki } from '../../support/forge.ts';

const refused = (pattern: RegExp) => (error: unknown) =>
  error instanceof SignetError && error.code === 'INVALID_CSR' && pattern.test(error.message);
const rsa = (modulus: Buffer, exponent: number): Buffer =>
  sequence(
    sequence(oid(keyOid.rsa), der(tag.null)),
    bitString(sequence(unsignedInteger(modulus), unsignedInteger(Buffer.from(exponent.toString(16).padStart(10, '0'), 'hex')))),
  );

describe('our own key pairs', () => {
  for (const algorithm of ['ec-p256', 'ec-p384'] as const) {
    test(`${algorithm} goes to PKCS#8 PEM and back`, () => {
      const pair = generateKeyPair(algorithm);
      const back = importKeyPair(privateKeyPem(pair.privateKey));
      assert.equal(back.algorithm, algorithm);
      assert.equal(back.spkiSha256, pair.spkiSha256);
      assert.ok(back.spki.equals(spkiOf(pair.privateKey)));
      assert.equal(parseSubjectKey(pair.spki).spkiSha256, pair.spkiSha256);
    });
  }

  test('other kinds of key and garbage are refused without an echo', () => {
    for (const pem of [privateKeyPem(foreignKey('rsa-2048')), privateKeyPem(foreignKey('ed25519')), 'SECRET-GARBAGE']) {
      assert.throws(
        () => importKeyPair(pem),
        (error) => error instanceof SignetError && error.code === 'INVALID_ARGUMENT' && !error.message.includes('SECRET'),
      );
    }
  });

  test('an encrypted key opens with its passphrase and no other', () => {
    const { privateKey } = generateKeyPair();
    const pem = privateKey.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'right' }).toString();
    assert.ok(spkiOf(importPrivateKey(pem, 'right')).equals(spkiOf(privateKey)));
    assert.throws(() => importPrivateKey(pem, 'wrong'), SignetError);
    assert.throws(() => importPrivateKey(pem), SignetError);
  });
});

describe('public keys of others', () => {
  test('P-256, P-384 and RSA of 2048 bits pass with their sizes', () => {
    assert.deepEqual(
      [256, 384].map((bits) => parseSubjectKey(generateKeyPair(bits === 256 ? 'ec-p256' : 'ec-p384').spki).bits),
      [256, 384],
    );
    const key = parseSubjectKey(publicSpki(foreignKey('rsa-2048')));
    assert.deepEqual([key.algorithm, key.bits, key.publicKey.asymmetricKeyType], ['rsa', 2048, 'rsa']);
  });

  const named: readonly (readonly [ForeignKey, RegExp])[] = [
    ['ed25519', /Ed25519/],
    ['ed448', /Ed448/],
    ['x25519', /X25519/],
    ['P-224', /P-224/],
    ['P-521', /P-521/],
    ['secp256k1', /secp256k1/],
    ['rsa-1024', /1024 bits is too weak/],
    ['rsa-pss', /RSASSA-PSS/],
    ['dsa', /DSA/],
  ];
  for (const [kind, pattern] of named) {
    test(`${kind} is refused by name`, () => {
      assert.throws(() => parseSubjectKey(publicSpki(foreignKey(kind))), refused(pattern));
    });
  }

  test('RSA keys with an even modulus, an odd size or an odd exponent are refused', () => {
    const modulus = Buffer.alloc(256, 0xff);
    assert.throws(() => parseSubjectKey(rsa(modulus, 3)), refused(/exponent/));
    assert.throws(() => parseSubjectKey(rsa(modulus, 65536)), refused(/exponent/));
    assert.throws(() => parseSubjectKey(rsa(modulus, 2 ** 33 + 1)), refused(/exponent/));
    assert.throws(() => parseSubjectKey(rsa(Buffer.concat([modulus.subarray(1), Buffer.of(0xfe)]), 65537)), refused(/even/));
    assert.throws(() => parseSubjectKey(rsa(Buffer.alloc(1025, 0xff), 65537)), refused(/8200 bits/));
    assert.throws(() => parseSubjectKey(rsa(Buffer.concat([Buffer.of(0x7f), Buffer.alloc(255, 0xff)]), 65537)), refused(/2047 bits/));
  });

  test('a point off its curve, a compressed one and one of another curve are refused', () => {
    const { spki } = generateKeyPair();
    const off = Buffer.from(spki);
    off[60] = (off[60] ?? 0) ^ 1;
    assert.throws(() => parseSubjectKey(off), refused(/not valid/));
    const ec = (curve: string, point: Buffer): Buffer => sequence(sequence(oid(keyOid.ec), oid(curve)), bitString(point));
    const point = spki.subarray(-65);
    assert.throws(() => parseSubjectKey(ec(curveOid.p256, Buffer.concat([Buffer.of(2), point.subarray(1, 33)]))), refused(/uncompressed/));
    assert.throws(() => parseSubjectKey(ec(curveOid.p384, point)), refused(/uncompressed/));
    assert.throws(() => parseSubjectKey(ec(curveOid.p256, Buffer.of(0))), refused(/uncompressed/));
  });

  test('no mutation of a key is taken for the same key, and none throws anything but INVALID_CSR', () => {
    const { spki, spkiSha256 } = generateKeyPair();
    fc.assert(
      fc.property(fc.nat(spki.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const changed = Buffer.from(spki);
        changed[at] = (changed[at] ?? 0) ^ flip;
        try {
          const key = parseSubjectKey(changed);
          assert.notEqual(key.spkiSha256, spkiSha256);
          assert.ok(key.publicKey.equals(createPublicKey({ key: changed, format: 'der', type: 'spki' })));
        } catch (error) {
          assert.ok(error instanceof SignetError && error.code === 'INVALID_CSR', String(error));
        }
      }),
      { numRuns: 1000 },
    );
  });

  test('the parsed key holds on to no part of the message it came in', () => {
    const message = Buffer.concat([Buffer.alloc(10), generateKeyPair().spki]);
    const key = parseSubjectKey(message.subarray(10));
    const before = key.spki.toString('hex');
    message.fill(0);
    assert.equal(key.spki.toString('hex'), before);
  });
});
