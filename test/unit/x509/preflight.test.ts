import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import fc from 'fast-check';
import { SignetError } from '../../../src/base/errors.ts';
import { parseSpiffeId } from '../../../src/spiffe/id.ts';
import { checkIssued } from '../../../src/x509/chain.ts';
import { basicConstraintsExtension, extendedKeyUsageExtension, keyUsageExtension } from '../../../src/x509/extensions.ts';
import { generateKeyPair, privateKeyPem, spkiOf } from '../../../src/x509/keys.ts';
import { createLeafIssuer } from '../../../src/x509/leaf.ts';
import type { CheckedChain } from '../../../src/x509/material.ts';
import { certificatesFromPem, pemEncode } from '../../../src/x509/pem.ts';
import { checkAnchors, checkIdentity } from '../../../src/x509/preflight.ts';
import {
  day,
  type ForeignKey,
  foreignKey,
  forgeCertificate,
  hour,
  noon,
  testCa,
  type TestCa,
  unknownExtension,
} from '../../support/forge.ts';

const web = parseSpiffeId('spiffe://example.org/web');
const key = generateKeyPair();
const refused = (pattern: RegExp) => (error: unknown) =>
  error instanceof SignetError && error.code === 'INVALID_ARGUMENT' && pattern.test(error.message);
let cas: TestCa[];
let leaf: Buffer;
let chain: CheckedChain;
before(async () => {
  cas = await Promise.all(['A', 'B', 'C', 'D'].map(async (name) => testCa(name)));
  const [ca] = cas;
  assert.ok(ca);
  ({ der: leaf } = await createLeafIssuer(ca.ca).issue({ spki: key.spki, spiffeId: web, notBefore: noon, notAfter: noon + hour }));
  const expected = { spkiSha256: key.spkiSha256, spiffeId: web, notAfter: noon + hour };
  chain = checkIssued({ chain: [leaf, ca.intermediate], anchors: [ca.root], at: noon, expected });
});

describe('anchors', () => {
  const root = (forged: {
    extensions: readonly Buffer[];
    kind?: ForeignKey;
    notBefore?: number;
    notAfter?: number;
    signer?: ForeignKey;
  }): Buffer => {
    const own = forged.kind ? foreignKey(forged.kind) : key.privateKey;
    const dates = { notBefore: forged.notBefore ?? noon - hour, notAfter: forged.notAfter ?? noon + day };
    return forgeCertificate({
      issuerKey: forged.signer ? foreignKey(forged.signer) : own,
      issuerName: 'r',
      subjectName: 'r',
      spki: spkiOf(own),
      extensions: forged.extensions,
      ...dates,
    });
  };
  const isCa = basicConstraintsExtension({});

  test('in any order and any number of copies are the same bytes', () => {
    const roots = cas.map((ca) => ca.root);
    const expected = checkAnchors(roots, noon);
    assert.equal(expected.certificates.length, 4);
    assert.equal(certificatesFromPem(expected.pem).length, 4);
    fc.assert(
      fc.property(fc.shuffledSubarray([0, 1, 2, 3], { minLength: 4 }), fc.array(fc.nat(3), { maxLength: 5 }), (order, copies) => {
        // Copies of the bytes, as a file that is read again gives.
        const given = [...order, ...copies].map((i) => Buffer.from(roots[i] ?? Buffer.alloc(0)));
        assert.equal(checkAnchors(given, noon).pem, expected.pem);
      }),
      { numRuns: 30 },
    );
  });

  test('are never none, never garbage, and never a leaf', () => {
    const [ca] = cas;
    assert.throws(() => checkAnchors([], noon), refused(/at least one/));
    assert.throws(() => checkAnchors([Buffer.from('garbage')], noon), refused(/malformed/));
    assert.throws(() => checkAnchors([ca?.root ?? leaf, leaf], noon), refused(/not a CA/));
    assert.throws(
      () =>
        checkAnchors(
          Array.from({ length: 501 }, () => leaf),
          noon,
        ),
      refused(/more than/),
    );
  });

  test('never come with a private key', () => {
    const [ca] = cas;
    assert.throws(
      () => certificatesFromPem(pemEncode('CERTIFICATE', ca?.root ?? leaf) + privateKeyPem(key.privateKey)),
      refused(/PRIVATE KEY/),
    );
  });

  test('that no handshake would succeed with are refused', () => {
    checkAnchors([root({ extensions: [isCa] })], noon);
    checkAnchors([root({ extensions: [isCa], kind: 'P-521' }), root({ extensions: [isCa], kind: 'rsa-2048' })], noon);
    assert.throws(() => checkAnchors([root({ extensions: [isCa, keyUsageExtension('digitalSignature')] })], noon), refused(/key usage/));
    assert.throws(
      () => checkAnchors([root({ extensions: [isCa, extendedKeyUsageExtension('clientAuth')] })], noon),
      refused(/extended key usage/),
    );
    assert.throws(() => checkAnchors([root({ extensions: [isCa, unknownExtension(true)] })], noon), refused(/critical/));
    assert.throws(
      () => checkAnchors([root({ extensions: [isCa, keyUsageExtension('keyCertSign')], signer: 'rsa-2048' })], noon),
      refused(/signature/),
    );
  });

  for (const kind of ['P-224', 'secp256k1', 'rsa-1024', 'ed448'] as const) {
    test(`with a key of the kind ${kind} are refused`, () => {
      const weak = forgeCertificate({ issuerKey: key.privateKey, subjectName: 'weak', spki: spkiOf(foreignKey(kind)), extensions: [isCa] });
      assert.throws(() => checkAnchors([weak], noon), refused(/weak/));
    });
  }

  test('may have signed themselves with SHA-1, since nobody relies on that signature', () => {
    const old = forgeCertificate({
      issuerKey: key.privateKey,
      issuerName: 'old',
      subjectName: 'old',
      spki: key.spki,
      extensions: [isCa],
      sha1: true,
    });
    assert.equal(checkAnchors([old], noon).certificates.length, 1);
  });

  test('that expired stay, so that time changes no bytes, but one must be valid', () => {
    const [ca] = cas;
    const expired = root({ extensions: [isCa], notBefore: noon - 2 * day, notAfter: noon - day });
    const future = root({ extensions: [isCa], notBefore: noon + hour });
    assert.equal(checkAnchors([expired, ca?.root ?? leaf], noon).certificates.length, 2);
    assert.throws(() => checkAnchors([expired, future], noon), refused(/valid now/));
  });
});

describe('an identity', () => {
  test('with the key of its leaf passes, as an object or as PEM, and is sent as PKCS#8', () => {
    const pem = privateKeyPem(key.privateKey);
    const sec1 = key.privateKey.export({ type: 'sec1', format: 'pem' }).toString();
    for (const inline of [key.privateKey, pem, sec1]) assert.deepEqual(checkIdentity(chain, { inline }).key, { inline: pem });
  });

  test('with another key, no key or a public key does not, and the message holds none of it', () => {
    const other = privateKeyPem(generateKeyPair().privateKey);
    const body = other.split('\n')[1] ?? '';
    assert.throws(
      () => checkIdentity(chain, { inline: other }),
      (error) => refused(/not that of/)(error) && !String(error).includes(body),
    );
    assert.throws(() => checkIdentity(chain, { inline: '' }), refused(/private key/));
    assert.throws(() => checkIdentity(chain, { inline: other.replace(body, '') }), refused(/private key/));
    for (const kind of ['rsa-2048', 'ed25519', 'P-224'] as const)
      assert.throws(() => checkIdentity(chain, { inline: foreignKey(kind) }), refused(/not that of/));
  });

  test('names a key file after its key, by a clean absolute path', () => {
    const name = `${key.spkiSha256}.key`;
    assert.deepEqual(checkIdentity(chain, { file: `/var/lib/signet-1/keys/${name}` }).key, { file: `/var/lib/signet-1/keys/${name}` });
    for (const folder of ['', 'keys', './keys', '/', '/a/../b', '/a/./b', '/a//b', '/a b', '/a\nb', '/ä', `/${'x'.repeat(300)}`]) {
      assert.throws(() => checkIdentity(chain, { file: `${folder}/${name}` }), refused(/absolute path/), folder);
    }
    for (const other of ['other.key', `${generateKeyPair().spkiSha256}.key`, name.toUpperCase(), '']) {
      assert.throws(() => checkIdentity(chain, { file: `/keys/${other}` }), refused(/named after/), other);
    }
  });
});
