/**
 * What preflight accepts, a real Envoy takes and serves; what Envoy would refuse, or take and then fail on, preflight
 * refuses. The rows are those that Envoy is known to judge; the rest is drawn at random from good and bad parts.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { checkIssued } from '../../src/x509/chain.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import type { CheckedAnchors, CheckedIdentity } from '../../src/x509/material.ts';
import { certificatesFromPem } from '../../src/x509/pem.ts';
import { parseSpiffeId } from '../../src/spiffe/id.ts';
import { checkAnchors, checkIdentity } from '../../src/x509/preflight.ts';
import { startFileSdsEnvoy, type FileSdsEnvoy } from '../support/file-sds-envoy.ts';
import { requestOnce, tlsIdentity } from '../support/mtls-request.ts';
import { foreignCa, foreignIntermediate, foreignLeaf, type PemPair } from '../support/openssl.ts';
import { seededRandom } from '../support/seeded-random.ts';

const trustDomain = 'cluster.local';
const uri = `spiffe://${trustDomain}/ns/shop/sa/web`;
const curve = (name: string): string[] => ['-newkey', 'ec', '-pkeyopt', `ec_paramgen_curve:${name}`, '-nodes'];
const rsa = (bits: number): string[] => ['-newkey', `rsa:${String(bits)}`, '-nodes'];
const minute = 60_000;

interface Parts {
  readonly chain: string;
  readonly key: string;
}

/** What our own preflight makes of it; undefined when it refuses. */
function preflightIdentity(parts: Parts, anchors: string): CheckedIdentity | undefined {
  try {
    const chain = certificatesFromPem(parts.chain);
    const [leaf] = chain;
    const spkiSha256 = leaf ? parseCertificate(leaf).spkiSha256 : '';
    const expected = { spkiSha256, spiffeId: parseSpiffeId(uri), notAfter: Date.now() + 90 * 86_400_000 };
    const checked = checkIssued({ chain, anchors: certificatesFromPem(anchors), at: Date.now(), expected });
    return checkIdentity(checked, { inline: parts.key });
  } catch {
    return undefined;
  }
}

function preflightAnchors(pem: string): CheckedAnchors | undefined {
  try {
    return checkAnchors(certificatesFromPem(pem), Date.now());
  } catch {
    return undefined;
  }
}

const ca = await foreignCa();
const intermediate = await foreignIntermediate(ca);
const other = await foreignCa('Another Root');
const expiredRoot = await foreignIntermediate(ca, { notBefore: Date.now() - 10 * minute, notAfter: Date.now() - minute });
const [good, spare, viaIntermediate, client] = await Promise.all([
  foreignLeaf(ca, { uri }),
  foreignLeaf(ca, { uri }),
  foreignLeaf(intermediate, { uri }),
  foreignLeaf(ca, { uri: `spiffe://${trustDomain}/ns/shop/sa/client` }),
]);
const pair = (made: PemPair): Parts => ({ chain: made.certificate, key: made.key });
const leafWith = async (wish: Omit<Parameters<typeof foreignLeaf>[1], 'uri'>): Promise<Parts> =>
  pair(await foreignLeaf(ca, { uri, ...wish }));

const accepted: readonly (readonly [string, Parts])[] = [
  ['a P-256 leaf', pair(good)],
  ['a P-384 leaf', await leafWith({ keyArgs: curve('P-384') })],
  ['an RSA 2048 leaf', await leafWith({ keyArgs: rsa(2048) })],
  ['an RSA 3072 leaf', await leafWith({ keyArgs: rsa(3072) })],
  ['a chain with its intermediate', { chain: viaIntermediate.certificate + intermediate.certificate, key: viaIntermediate.key }],
  ['a chain that ends in its root', { chain: good.certificate + ca.certificate, key: good.key }],
];

const refused: readonly (readonly [string, Parts])[] = [
  ["another pair's key", { chain: good.certificate, key: spare.key }],
  ['a chain in the wrong order', { chain: intermediate.certificate + viaIntermediate.certificate, key: viaIntermediate.key }],
  ['a chain without its intermediate', pair(viaIntermediate)],
  ['a chain that is no PEM', { chain: 'not a certificate', key: good.key }],
  ['a chain cut short', { chain: good.certificate.slice(0, 300), key: good.key }],
  ['an empty chain', { chain: '', key: good.key }],
  ['a key that is no PEM', { chain: good.certificate, key: 'not a key' }],
  ['an empty key', { chain: good.certificate, key: '' }],
  ['a P-224 leaf', await leafWith({ keyArgs: curve('secp224r1') })],
  ['a secp256k1 leaf', await leafWith({ keyArgs: curve('secp256k1') })],
  ['an RSA 1024 leaf', await leafWith({ keyArgs: rsa(1024) })],
  ['an expired leaf', await leafWith({ notBefore: Date.now() - 10 * minute, notAfter: Date.now() - minute })],
  ['a leaf that is not valid yet', await leafWith({ notBefore: Date.now() + 10 * minute })],
  ['a leaf of a CA that nobody trusts', pair(await foreignLeaf(other, { uri }))],
  ['a leaf that wants a stapled OCSP response', await leafWith({ extensions: ['tlsfeature = status_request'] })],
  ['a leaf with another identity', pair(client)],
  ['a CA as leaf', { chain: ca.certificate, key: ca.key }],
];

const acceptedAnchors: readonly (readonly [string, string])[] = [
  ['one root', ca.certificate],
  ['two roots', ca.certificate + other.certificate],
  ['the same root twice', ca.certificate + other.certificate + ca.certificate],
  ['a root beside an expired CA', ca.certificate + expiredRoot.certificate],
];

const refusedAnchors: readonly (readonly [string, string])[] = [
  ['nothing', ''],
  ['garbage', 'not a certificate'],
  ['a leaf', good.certificate],
  ['a root and a leaf', ca.certificate + good.certificate],
  ['only an expired CA', expiredRoot.certificate],
];

for (const version of ['1.40.0', '1.36.4']) {
  describe(`preflight, judged by Envoy ${version}`, () => {
    let judge: FileSdsEnvoy;
    let port: number;

    before(async () => {
      judge = await startFileSdsEnvoy({ identity: pair(good), anchors: ca.certificate }, { version, trustDomain });
      await judge.envoy.ready();
      port = await judge.envoy.port('inbound');
    });
    after(async () => judge[Symbol.asyncDispose]());

    /** A handshake in both directions: the client is checked against the anchors in force, the server by the client. */
    const handshake = async (): Promise<string> =>
      requestOnce({ port, peer: uri, http: 'h1' }, tlsIdentity(client, ca.certificate), 10_000);

    const serves = async (identity: CheckedIdentity): Promise<void> => {
      assert.ok('inline' in identity.key);
      assert.equal(await judge.put('default', { chain: identity.chain.pems.join(''), key: identity.key.inline }), 'taken');
      assert.equal(await handshake(), identity.chain.serial.replace(/^0+(?=.)/, ''));
    };

    for (const [name, parts] of accepted) {
      it(`accepts ${name}: taken and served`, async () => {
        const identity = preflightIdentity(parts, ca.certificate);
        assert.ok(identity, 'preflight refused it');
        await serves(identity);
      });
    }

    for (const [name, parts] of refused) {
      it(`refuses ${name}`, () => {
        assert.ok(preflightIdentity(parts, ca.certificate) === undefined, 'preflight accepted it');
      });
    }

    for (const [name, pem] of acceptedAnchors) {
      it(`accepts ${name} as anchors: taken, and a client of the root gets in`, async () => {
        const anchors = preflightAnchors(pem);
        assert.ok(anchors, 'preflight refused it');
        assert.ok(!anchors.pem.includes('PRIVATE KEY'));
        assert.equal(await judge.put('ROOTCA', { anchors: anchors.pem }), 'taken');
        await handshake();
      });
    }

    for (const [name, pem] of refusedAnchors) {
      it(`refuses ${name} as anchors`, () => {
        assert.ok(preflightAnchors(pem) === undefined, 'preflight accepted it');
      });
    }

    it('sends certificates only, even if the file of roots holds a private key', async () => {
      const anchors = preflightAnchors(ca.certificate + ca.key);
      if (!anchors) return; // Refusing such a file is as good.
      assert.ok(!anchors.pem.includes('PRIVATE KEY'));
      assert.equal(await judge.put('ROOTCA', { anchors: anchors.pem }), 'taken');
    });

    it('agrees with Envoy on chains and keys put together at random', async () => {
      const certificates = [good, spare, viaIntermediate, intermediate, ca, other, client].map((made) => made.certificate);
      const keys = [good, spare, viaIntermediate, intermediate].map((made) => made.key);
      const draw = seededRandom(20_261_123);
      const pick = <T>(from: readonly T[]): T => from[Math.floor(draw() * from.length)] as T;
      let served = 0;
      for (let i = 0; i < 400; i++) {
        const length = 1 + Math.floor(draw() * 3);
        const parts = { chain: Array.from({ length }, () => pick(certificates)).join(''), key: pick(keys) };
        const identity = preflightIdentity(parts, ca.certificate);
        if (!identity || served >= 12) continue;
        await serves(identity);
        served++;
      }
      assert.ok(served >= 5, `only ${String(served)} of the random chains were accepted: the draw shows nothing`);
    });
  });
}
