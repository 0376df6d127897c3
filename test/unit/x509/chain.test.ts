import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { SignetError } from '../../../src/base/errors.ts';
import { parseSpiffeId } from '../../../src/spiffe/id.ts';
import { createIntermediateCertificate, createRootCertificate } from '../../../src/x509/ca-certificate.ts';
import { checkIssued, type IssuedCheck, verifyChain, verifySvid } from '../../../src/x509/chain.ts';
import { type Certificate, parseCertificate } from '../../../src/x509/certificate.ts';
import { der, oid, sequence } from '../../../src/x509/der-writer.ts';
import {
  basicConstraintsExtension,
  encodeExtension,
  extendedKeyUsageExtension,
  authorityKeyIdExtension,
  keyUsageExtension,
  subjectKeyIdExtension,
} from '../../../src/x509/extensions.ts';
import { localSigner } from '../../../src/x509/issuing-ca.ts';
import { generateKeyPair, spkiOf } from '../../../src/x509/keys.ts';
import { createLeafIssuer } from '../../../src/x509/leaf.ts';
import { extensionOid, tlsFeatureOid } from '../../../src/x509/oids.ts';
import { pemEncode } from '../../../src/x509/pem.ts';
import { altNames, day, foreignKey, forgeCertificate, hour, noon, testCa, type TestCa, unknownExtension } from '../../support/forge.ts';

const web = parseSpiffeId('spiffe://example.org/ns/shop/sa/web');
const key = generateKeyPair();
const fault = (pattern: RegExp) => (error: unknown) =>
  error instanceof SignetError && error.code === 'INVALID_ARGUMENT' && pattern.test(error.message);
let ca: TestCa;
let leaf: Buffer;
/** The same, as its issuer knows it. */
let asBuilt: Certificate;
before(async () => {
  ca = await testCa();
  const issuer = createLeafIssuer(ca.ca);
  const request = { spki: key.spki, spiffeId: web, notBefore: noon - 60_000, notAfter: noon + hour };
  // The first one is read back; those after it are not.
  await issuer.issue({ ...request, spki: generateKeyPair().spki });
  asBuilt = await issuer.issue(request);
  leaf = asBuilt.der;
});

describe('a chain', () => {
  test('of ours verifies up to its root, among others', async () => {
    const other = await testCa('Other');
    verifyChain([leaf, ca.intermediate], [other.root, ca.root], noon);
    verifyChain([ca.intermediate], [ca.root], noon);
    assert.equal(verifySvid([leaf, ca.intermediate], [ca.root], noon).spiffeId, web);
  });

  test('verifies up to an intermediate that is trusted by itself', () => {
    verifyChain([leaf], [ca.intermediate], noon);
  });

  test('in the wrong order, with a gap, a stranger or nothing in it does not', async () => {
    const other = await testCa('Other');
    assert.throws(
      () => {
        verifyChain([ca.intermediate, leaf], [ca.root], noon);
      },
      fault(/not a CA/),
    );
    assert.throws(
      () => {
        verifyChain([leaf], [ca.root], noon);
      },
      fault(/trusted root/),
    );
    assert.throws(
      () => {
        verifyChain([leaf, other.intermediate], [other.root], noon);
      },
      fault(/issuer is not/),
    );
    assert.throws(
      () => {
        verifyChain([leaf, ca.intermediate], [other.root], noon);
      },
      fault(/trusted root/),
    );
    assert.throws(() => {
      verifyChain([], [ca.root], noon);
    }, fault(/empty/));
    assert.throws(
      () => {
        verifyChain([leaf, ca.intermediate], [], noon);
      },
      fault(/trusted root/),
    );
    assert.throws(
      () => {
        verifyChain([leaf, ...Array.from({ length: 9 }, () => ca.intermediate)], [ca.root], noon);
      },
      fault(/more than/),
    );
  });

  test('under a namesake of its CA with another key does not', async () => {
    const twin = await testCa();
    assert.throws(
      () => {
        verifyChain([leaf, twin.intermediate], [twin.root], noon);
      },
      fault(/key identifier/),
    );
    // Without identifiers, only the signature tells.
    const root = forgeCertificate({
      issuerKey: key.privateKey,
      issuerName: 'r',
      subjectName: 'r',
      spki: key.spki,
      extensions: [basicConstraintsExtension({})],
    });
    const impostor = forgeCertificate({
      issuerKey: generateKeyPair().privateKey,
      issuerName: 'r',
      spki: key.spki,
      extensions: [basicConstraintsExtension(false)],
    });
    assert.throws(
      () => {
        verifyChain([impostor], [root], noon);
      },
      fault(/signature/),
    );
  });

  test('signed with SHA-1 does not, though its root may be', () => {
    const ends = { issuerKey: key.privateKey, issuerName: 'old', spki: key.spki };
    const old = forgeCertificate({ ...ends, subjectName: 'old', extensions: [basicConstraintsExtension({})], sha1: true });
    const good = forgeCertificate({ ...ends, extensions: [basicConstraintsExtension(false)] });
    const bad = forgeCertificate({ ...ends, extensions: [basicConstraintsExtension(false)], sha1: true });
    verifyChain([good], [old], noon);
    assert.throws(
      () => {
        verifyChain([bad], [old], noon);
      },
      fault(/ECDSA with SHA-1/),
    );
  });

  test('with any octet of its leaf changed does not', () => {
    for (let at = 0; at < leaf.length; at++) {
      const changed = Buffer.from(leaf);
      changed[at] = (changed[at] ?? 0) ^ 1;
      assert.throws(
        () => {
          verifyChain([changed, ca.intermediate], [ca.root], noon);
        },
        SignetError,
        String(at),
      );
    }
  });

  test('is good from the first second to the last of all its certificates', () => {
    const { notBefore, notAfter } = parseCertificate(leaf);
    for (const at of [notBefore, notAfter]) verifyChain([leaf, ca.intermediate], [ca.root], at);
    assert.throws(
      () => {
        verifyChain([leaf, ca.intermediate], [ca.root], notBefore - 1);
      },
      fault(/not valid yet/),
    );
    assert.throws(
      () => {
        verifyChain([leaf, ca.intermediate], [ca.root], notAfter + 1);
      },
      fault(/expired/),
    );
    assert.throws(
      () => {
        verifyChain([ca.intermediate], [ca.root], noon + 366 * day);
      },
      fault(/expired/),
    );
  });

  test('needs CAs all the way up: path lengths, usages, purposes, strong keys, nothing critical and unknown', async () => {
    const keys = [generateKeyPair(), generateKeyPair()] as const;
    const bottom = {
      issuerName: 'ca',
      spki: key.spki,
      extensions: [basicConstraintsExtension(false), keyUsageExtension('digitalSignature')],
    };
    const under = (extensions: readonly Buffer[], caKey = keys[0].privateKey): (() => void) => {
      const certificate = forgeCertificate({ issuerKey: caKey, issuerName: 'ca', subjectName: 'ca', spki: spkiOf(caKey), extensions });
      const child = forgeCertificate({ ...bottom, issuerKey: caKey });
      return () => {
        verifyChain([child], [certificate], noon);
      };
    };
    const isCa = basicConstraintsExtension({});
    under([isCa])();
    under([isCa, extendedKeyUsageExtension('serverAuth', 'clientAuth'), unknownExtension(false)])();
    under([isCa, keyUsageExtension('keyCertSign')], foreignKey('P-521'))();
    assert.throws(under([basicConstraintsExtension(false)]), fault(/not a CA/));
    assert.throws(under([unknownExtension(false)]), fault(/not a CA/));
    assert.throws(under([isCa, keyUsageExtension('cRLSign')]), fault(/key usage/));
    assert.throws(under([isCa, extendedKeyUsageExtension('serverAuth')]), fault(/extended key usage/));
    assert.throws(under([isCa, unknownExtension(true)]), fault(/critical/));

    const long = await createIntermediateCertificate({
      issuer: ca.rootCa,
      spki: keys[0].spki,
      commonName: 'A',
      organization: 'o',
      notBefore: noon - hour,
      notAfter: noon + day,
      pathLength: 1,
    });
    const a = { certificate: long, signer: localSigner(keys[0].privateKey) };
    const short = await createIntermediateCertificate({
      issuer: a,
      spki: keys[1].spki,
      commonName: 'B',
      organization: 'o',
      notBefore: noon - hour,
      notAfter: noon + day,
      pathLength: 0,
    });
    const { der: end } = await createLeafIssuer({ certificate: short, signer: localSigner(keys[1].privateKey) }).issue({
      spki: key.spki,
      spiffeId: web,
      notBefore: noon,
      notAfter: noon + hour,
    });
    verifyChain([end, short, long], [ca.root], noon);
    // The same two with a first CA that allows none below it.
    const strict = forgeCertificate({
      issuerKey: keys[0].privateKey,
      issuerName: 'strict',
      subjectName: 'strict',
      spki: keys[0].spki,
      extensions: [basicConstraintsExtension({ pathLength: 0 }), keyUsageExtension('keyCertSign')],
    });
    const below = forgeCertificate({
      issuerKey: keys[0].privateKey,
      issuerName: 'strict',
      subjectName: 'below',
      spki: keys[1].spki,
      extensions: [isCa],
    });
    const child = forgeCertificate({
      issuerKey: keys[1].privateKey,
      issuerName: 'below',
      spki: key.spki,
      extensions: [basicConstraintsExtension(false)],
    });
    assert.throws(
      () => {
        verifyChain([child, below], [strict], noon);
      },
      fault(/path length/),
    );
  });

  test('may have self-issued CAs that no path length counts', () => {
    const [old, fresh] = [generateKeyPair(), generateKeyPair()];
    const isCa = basicConstraintsExtension({ pathLength: 0 });
    const ids = { old: Buffer.alloc(20, 1), fresh: Buffer.alloc(20, 2) };
    const root = forgeCertificate({
      issuerKey: old.privateKey,
      issuerName: 'n',
      subjectName: 'n',
      spki: old.spki,
      extensions: [isCa, subjectKeyIdExtension(ids.old)],
    });
    const rollover = forgeCertificate({
      issuerKey: old.privateKey,
      issuerName: 'n',
      subjectName: 'n',
      spki: fresh.spki,
      extensions: [isCa, subjectKeyIdExtension(ids.fresh), authorityKeyIdExtension(ids.old)],
    });
    const end = forgeCertificate({
      issuerKey: fresh.privateKey,
      issuerName: 'n',
      spki: key.spki,
      extensions: [authorityKeyIdExtension(ids.fresh)],
    });
    verifyChain([end, rollover], [root], noon);
  });

  test('obeys the name constraints of its CAs', () => {
    const caKey = generateKeyPair();
    const subtree = (kind: number, base: string): Buffer => sequence(der(kind, Buffer.from(base)));
    const judged = (constraints: Buffer, names: readonly (readonly [number, string])[]): (() => void) => {
      const constrained = forgeCertificate({
        issuerKey: caKey.privateKey,
        issuerName: 'ca',
        subjectName: 'ca',
        spki: caKey.spki,
        extensions: [basicConstraintsExtension({}), encodeExtension(extensionOid.nameConstraints, true, constraints)],
      });
      const child = forgeCertificate({
        issuerKey: caKey.privateKey,
        issuerName: 'ca',
        subject: sequence(),
        spki: key.spki,
        extensions: [altNames(names)],
      });
      return () => {
        verifyChain([child], [constrained], noon);
      };
    };
    const only = sequence(der(0xa0, subtree(0x86, 'example.org')));
    const below = sequence(der(0xa0, subtree(0x86, '.example.org')));
    const not = sequence(der(0xa1, subtree(0x86, 'example.org')));
    judged(only, [[0x86, web]])();
    judged(below, [[0x86, 'spiffe://eu.example.org/x']])();
    judged(not, [[0x86, 'spiffe://example.com/x']])();
    judged(sequence(der(0xa0, subtree(0x82, 'example.org'))), [[0x86, web]])();
    assert.throws(judged(only, [[0x86, 'spiffe://example.com/x']]), fault(/outside/));
    assert.throws(judged(only, [[0x86, 'spiffe://eu.example.org/x']]), fault(/outside/));
    assert.throws(judged(below, [[0x86, web]]), fault(/outside/));
    assert.throws(judged(not, [[0x86, web]]), fault(/excluded/));
    assert.throws(judged(only, [[0x86, 'urn:x']]), fault(/without a host/));
    assert.throws(judged(only, [[0x86, 'spiffe://example.org@evil/x']]), fault(/without a host/));
    // What is not evaluated fails closed.
    assert.throws(judged(sequence(der(0xa0, subtree(0x82, 'example.org'))), [[0x82, 'www.example.org']]), fault(/DNS/));
  });
});

describe('what an authority returned', () => {
  const check = (change: Partial<IssuedCheck> = {}): IssuedCheck => ({
    chain: [leaf, ca.intermediate],
    anchors: [ca.root],
    at: noon,
    expected: { spkiSha256: key.spkiSha256, spiffeId: web, notAfter: noon + hour },
    ...change,
  });
  const misbehaved = (pattern: RegExp) => (error: unknown) =>
    error instanceof SignetError && error.code === 'AUTHORITY_MISBEHAVED' && pattern.test(error.message);

  for (const where of ['here', 'elsewhere'] as const) {
    test(`is taken if it is what was asked for (built ${where})`, () => {
      const anchors = [ca.root];
      const builtHere = where === 'here' ? asBuilt : undefined;
      for (let i = 0; i < 2; i++) {
        const chain = checkIssued(check({ builtHere, anchors }));
        assert.deepEqual(chain.pems, [pemEncode('CERTIFICATE', leaf), pemEncode('CERTIFICATE', ca.intermediate)]);
        assert.deepEqual([chain.serial, chain.notBefore, chain.notAfter], [parseCertificate(leaf).serial, noon - 60_000, noon + hour]);
        assert.equal(chain.spkiSha256, key.spkiSha256);
      }
    });

    test(`is refused if it is not (built ${where})`, async () => {
      const builtHere = where === 'here' ? asBuilt : undefined;
      const other = await testCa('Other');
      const anchors = [ca.root];
      const refuses = (change: Partial<IssuedCheck>, pattern: RegExp): void => {
        assert.throws(() => checkIssued(check({ builtHere, anchors, ...change })), misbehaved(pattern));
      };
      // Once with the CAs above unknown, and once known from a good leaf.
      for (let i = 0; i < 2; i++) {
        const { expected } = check();
        refuses({ chain: [] }, /empty/);
        refuses({ expected: { ...expected, spkiSha256: generateKeyPair().spkiSha256 } }, /another key/);
        refuses({ expected: { ...expected, spiffeId: parseSpiffeId('spiffe://example.org/ns/shop/sa/db') } }, /another name/);
        refuses({ expected: { ...expected, notAfter: noon + hour - 1000 } }, /longer/);
        refuses({ at: noon + hour + 1 }, /expired/);
        refuses({ at: noon - 2 * hour }, /not valid yet/);
        refuses({ chain: [leaf] }, /trusted root/);
        refuses({ chain: [leaf, other.intermediate], anchors: [ca.root, other.root] }, /issuer is not/);
        refuses({ anchors: [other.root] }, /trusted root/);
        refuses({ chain: [ca.intermediate] }, /CA certificate/);
        checkIssued(check({ builtHere, anchors }));
      }
    });
  }

  test('is believed to be built here only if it is that very certificate', async () => {
    const builtHere = await createLeafIssuer(ca.ca).issue({
      spki: generateKeyPair().spki,
      spiffeId: web,
      notBefore: noon,
      notAfter: noon + hour,
    });
    const anchors = [ca.root];
    checkIssued(check({ anchors, builtHere }));
    const damaged = Buffer.from(leaf);
    damaged[damaged.length - 1] = (damaged[damaged.length - 1] ?? 0) ^ 1;
    assert.throws(() => checkIssued(check({ chain: [damaged, ca.intermediate], anchors, builtHere })), misbehaved(/signature/));
    assert.throws(() => checkIssued(check({ chain: [builtHere.der, ca.intermediate], anchors, builtHere })), misbehaved(/another key/));
  });

  test('loses a root at its end, since Envoy has that already', () => {
    assert.equal(checkIssued(check({ chain: [leaf, ca.intermediate, ca.root] })).certificates.length, 2);
  });

  test('may come straight from a root', async () => {
    const direct = await createLeafIssuer(ca.rootCa).issue({ spki: key.spki, spiffeId: web, notBefore: noon, notAfter: noon + hour });
    const anchors = [ca.root];
    for (let i = 0; i < 2; i++)
      assert.equal(checkIssued(check({ chain: [direct.der], anchors, builtHere: direct })).certificates.length, 1);
    assert.throws(() => checkIssued(check({ chain: [leaf], anchors, builtHere: asBuilt })), misbehaved(/trusted root/));
  });

  test('has its signature verified when it was made elsewhere, also under CAs that are known', () => {
    const anchors = [ca.root];
    checkIssued(check({ anchors }));
    const damaged = Buffer.from(leaf);
    damaged[damaged.length - 1] = (damaged[damaged.length - 1] ?? 0) ^ 1;
    assert.throws(() => checkIssued(check({ chain: [damaged, ca.intermediate], anchors })), misbehaved(/signature/));
  });

  test('may not outlive any of its issuers', () => {
    const root = createRootCertificate({
      key: ca.rootKey,
      commonName: 'Test Root',
      organization: 'example.org',
      notBefore: noon - hour,
      notAfter: noon + 60_000,
    });
    assert.throws(() => checkIssued(check({ anchors: [root] })), misbehaved(/outlives/));
  });

  test('has the profile that SPIFFE asks for and Envoy can serve', () => {
    const caKey = generateKeyPair();
    const root = forgeCertificate({
      issuerKey: caKey.privateKey,
      issuerName: 'ca',
      subjectName: 'ca',
      spki: caKey.spki,
      extensions: [basicConstraintsExtension({})],
    });
    const usage = keyUsageExtension('digitalSignature');
    const named = altNames([[0x86, web]]);
    const issued = (extensions: readonly Buffer[], subject = sequence(), spki = key.spki): IssuedCheck => ({
      chain: [forgeCertificate({ issuerKey: caKey.privateKey, issuerName: 'ca', subject, spki, extensions, notAfter: noon + hour })],
      anchors: [root],
      at: noon,
      expected: { spkiSha256: key.spkiSha256, spiffeId: web, notAfter: noon + hour },
    });
    checkIssued(issued([usage, named]));
    assert.throws(() => checkIssued(issued([named])), misbehaved(/key usage/));
    assert.throws(() => checkIssued(issued([keyUsageExtension('digitalSignature', 'keyCertSign'), named])), misbehaved(/of a CA/));
    assert.throws(() => checkIssued(issued([usage, extendedKeyUsageExtension('serverAuth'), named])), misbehaved(/extended key usage/));
    assert.throws(() => checkIssued(issued([usage])), misbehaved(/exactly one/));
    assert.throws(
      () =>
        checkIssued(
          issued([
            usage,
            altNames([
              [0x86, web],
              [0x86, web],
            ]),
          ]),
        ),
      misbehaved(/exactly one/),
    );
    assert.throws(
      () =>
        checkIssued(
          issued([
            usage,
            altNames([
              [0x86, web],
              [0x82, 'web.example.org'],
            ]),
          ]),
        ),
      misbehaved(/more names/),
    );
    assert.throws(() => checkIssued(issued([usage, altNames([[0x86, web]], false)])), misbehaved(/not critical/));
    assert.throws(() => checkIssued(issued([usage, named, unknownExtension(true)])), misbehaved(/critical/));
    assert.throws(
      () => checkIssued(issued([usage, named, encodeExtension(tlsFeatureOid, false, sequence(der(2, Buffer.of(5))))])),
      misbehaved(/stapled/),
    );
    assert.throws(() => checkIssued(issued([usage, named, basicConstraintsExtension({})])), misbehaved(/CA certificate/));
    assert.throws(
      () => checkIssued(issued([usage, named, encodeExtension(extensionOid.certificatePolicies, true, sequence(oid('2a')))])),
      misbehaved(/critical/),
    );
  });
});
