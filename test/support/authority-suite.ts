import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { SignetError } from '../../src/base/errors.ts';
import type { Authority, SigningRequest } from '../../src/ca/authority.ts';
import { spiffeId } from '../../src/spiffe/id.ts';
import type { TrustDomain } from '../../src/spiffe/id.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { checkIssued, verifyChain } from '../../src/x509/chain.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair, parseSubjectKey } from '../../src/x509/keys.ts';

/** One CA of the suite; it can be closed and opened again. */
export interface AuthorityLocation {
  open(): Promise<Authority>;
  dispose(): Promise<void>;
}

export interface AuthorityBackend {
  readonly name: string;
  readonly trustDomain: TrustDomain;
  /** Certificates between leaf and root in what it returns. */
  readonly intermediates: number;
  make(): Promise<AuthorityLocation>;
}

/** The second that is a minute ago: leaves are backdated. */
function aMinuteAgo(): number {
  return Math.floor(Date.now() / 1000) * 1000 - 60_000;
}

/** A request as the issuing pipeline makes it, for a new P-256 key. */
export function signingRequest(trustDomain: TrustDomain, fields: Partial<SigningRequest> = {}): SigningRequest {
  const key = generateKeyPair();
  const id = spiffeId(trustDomain, ['ns', 'shop', 'sa', 'web']);
  const notBefore = aMinuteAgo();
  return {
    spiffeId: id,
    spki: key.spki,
    spkiSha256: key.spkiSha256,
    csr: () => createCsr(key, [id]),
    notBefore,
    notAfter: notBefore + 3_600_000,
    ...fields,
  };
}

/** What every authority promises, whoever's CA is behind it. */
export function authoritySuite(backend: AuthorityBackend): void {
  describe(`authority ${backend.name}`, () => {
    const never = new AbortController().signal;
    let location: AuthorityLocation;
    let authority: Authority;

    before(async () => {
      location = await backend.make();
      authority = await location.open();
    });
    after(async () => {
      await authority.close();
      await location.dispose();
    });

    const request = (fields: Partial<SigningRequest> = {}): SigningRequest => signingRequest(backend.trustDomain, fields);

    it('returns leaf, then intermediates, and no root; they verify up to its anchors and name the signing key', async () => {
      const asked = request();
      const { certificates, issuerKeyId } = await authority.sign(asked, never);
      const anchors = await authority.anchors(never);
      assert.equal(certificates.length, 1 + backend.intermediates);
      assert.ok(!certificates.some((der) => anchors.some((anchor) => anchor.equals(der))));
      verifyChain(certificates, anchors, Date.now());
      const expected = { spkiSha256: asked.spkiSha256, spiffeId: asked.spiffeId, notAfter: asked.notAfter };
      checkIssued({ chain: certificates, anchors, at: Date.now(), expected, signaturesTrusted: false });
      assert.equal(issuerKeyId, parseCertificate(certificates[0]).authorityKeyId);
      const [first] = anchors;
      assert.ok(first);
      for (const anchor of anchors) assert.ok(parseCertificate(anchor).isCa);
    });

    it('certifies the key and the one name that were asked for, and nothing else', async () => {
      const asked = request();
      const leaf = parseCertificate((await authority.sign(asked, never)).certificates[0]);
      assert.equal(leaf.spkiSha256, asked.spkiSha256);
      assert.deepEqual([leaf.uris, leaf.dnsNames, leaf.otherNames], [[asked.spiffeId], [], []]);
      assert.equal(leaf.isCa, false);
    });

    it('gives the life asked for, or less, never more', async () => {
      for (const ms of [10_000, 3_600_000, 86_400_000]) {
        const notBefore = aMinuteAgo();
        const asked = request({ notBefore, notAfter: notBefore + 60_000 + ms });
        const leaf = parseCertificate((await authority.sign(asked, never)).certificates[0]);
        assert.ok(leaf.notAfter <= asked.notAfter);
        if (authority.capabilities.exactLife) assert.deepEqual([leaf.notBefore, leaf.notAfter], [asked.notBefore, asked.notAfter]);
      }
    });

    it('never signs past the end of an issuer', async () => {
      const { certificates } = await authority.sign(request({ notAfter: authority.issuersEnd() + 86_400_000 }), never);
      const [leaf, ...issuers] = [...certificates, ...(await authority.anchors(never))].map(parseCertificate);
      assert.ok(leaf && leaf.notAfter <= authority.issuersEnd());
      for (const issuer of issuers) assert.ok(leaf.notAfter <= issuer.notAfter);
    });

    for (const [kind, make] of Object.entries({
      'P-384': () => generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey,
      'RSA-2048': () => generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey,
    })) {
      it(`certifies a ${kind} key`, async () => {
        const { spki, spkiSha256 } = parseSubjectKey(make().export({ type: 'spki', format: 'der' }));
        const { certificates } = await authority.sign(request({ spki, spkiSha256 }), never);
        assert.equal(parseCertificate(certificates[0]).spkiSha256, spkiSha256);
        verifyChain(certificates, await authority.anchors(never), Date.now());
      });
    }

    it('refuses a call that was cancelled before it began', async () => {
      await assert.rejects(
        authority.sign(request(), AbortSignal.abort()),
        (error) => error instanceof SignetError && error.code === 'CANCELLED',
      );
    });

    it('settles within 100 ms of being cancelled', async () => {
      const stop = new AbortController();
      const signing = authority.sign(request(), stop.signal).then(
        () => 'settled',
        () => 'settled',
      );
      stop.abort();
      // Both wait on one event loop, so a busy machine delays them alike.
      const late = new Promise((resolve) => setTimeout(resolve, 100, 'still busy'));
      assert.equal(await Promise.race([signing, late]), 'settled');
    });

    it('signs many at once, each with a serial and a key of its own', async () => {
      const asked = Array.from({ length: 40 }, () => request());
      const leaves = await Promise.all(asked.map(async (one) => parseCertificate((await authority.sign(one, never)).certificates[0])));
      assert.equal(new Set(leaves.map(({ serial }) => serial)).size, asked.length);
      assert.deepEqual(
        leaves.map(({ spkiSha256 }) => spkiSha256),
        asked.map(({ spkiSha256 }) => spkiSha256),
      );
    });

    it('says that it can sign, and until when', async () => {
      const { canSign, detail } = await authority.health(never);
      assert.equal(canSign, true);
      assert.notEqual(detail, '');
      assert.ok(authority.issuersEnd() > Date.now());
    });

    it('is the same CA after a restart', async () => {
      const before = await authority.anchors(never);
      const { certificates, issuerKeyId } = await authority.sign(request(), never);
      await authority.close();
      authority = await location.open();
      assert.deepEqual(await authority.anchors(never), before);
      verifyChain(certificates, await authority.anchors(never), Date.now());
      assert.equal((await authority.sign(request(), never)).issuerKeyId, issuerKeyId);
    });
  });
}
