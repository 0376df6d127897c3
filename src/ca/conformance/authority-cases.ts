import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { SignetError } from '../../base/errors.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import { verifyChain } from '../../x509/chain.ts';
import type { SignedChain } from '../authority.ts';
import { authorityFaultCases } from './authority-fault-cases.ts';
import { aMinuteAgo, cancellationMs, fails, fingerprints, leafOf, never, request, verify } from './authority-under-test.ts';
import type { AuthorityCase, KeyMaker } from './authority-under-test.ts';

/** What every authority promises, whoever's CA is behind it. In this order: the last ones leave the CA changed. */
export const authorityCases: readonly AuthorityCase[] = [
  {
    name: 'returns leaf, then intermediates, and no root; they verify up to its anchors and name the signing key',
    async run(held) {
      const asked = request(held);
      const signed = await held.authority.sign(asked, never);
      const anchors = await held.authority.anchors(never);
      const { intermediates } = held.subject;
      if (intermediates !== undefined) assert.equal(signed.certificates.length, 1 + intermediates);
      assert.ok(!signed.certificates.some((der) => anchors.some((anchor) => anchor.equals(der))), 'the chain holds an anchor');
      verifyChain(signed.certificates, anchors, Date.now());
      await verify(held, asked, signed);
      assert.equal(signed.issuerKeyId, leafOf(signed).authorityKeyId);
      assert.ok(anchors.length > 0, 'there is no anchor');
      for (const anchor of anchors) assert.ok(parseCertificate(anchor).isCa, 'an anchor is not a CA');
    },
  },
  {
    name: 'certifies the key and the one name that were asked for, and nothing else',
    async run(held) {
      const asked = request(held);
      const leaf = leafOf(await held.authority.sign(asked, never));
      assert.equal(leaf.spkiSha256, asked.spkiSha256);
      assert.deepEqual([leaf.uris, leaf.dnsNames, leaf.otherNames], [[asked.spiffeId], [], []]);
      assert.equal(leaf.isCa, false);
    },
  },
  {
    name: 'gives the life asked for, or less, never more',
    async run(held) {
      for (const ms of [10_000, 3_600_000, 86_400_000]) {
        if (ms < held.subject.shortestLifeMs) continue;
        const notBefore = aMinuteAgo();
        const asked = request(held, { notBefore, notAfter: notBefore + 60_000 + ms });
        const leaf = leafOf(await held.authority.sign(asked, never));
        assert.ok(leaf.notAfter <= asked.notAfter, `${new Date(leaf.notAfter).toISOString()} is past what was asked for`);
        if (held.authority.capabilities.exactLife) assert.deepEqual([leaf.notBefore, leaf.notAfter], [asked.notBefore, asked.notAfter]);
      }
    },
  },
  {
    name: 'never signs past the end of an issuer',
    async run(held) {
      const asked = request(held, { notAfter: held.authority.issuersEnd() + 86_400_000 });
      let signed: SignedChain;
      try {
        signed = await held.authority.sign(asked, never);
      } catch (error) {
        // Not to sign it at all is as good.
        assert.ok(
          error instanceof SignetError && (error.code === 'AUTHORITY_REFUSED' || error.code === 'AUTHORITY_MISCONFIGURED'),
          String(error),
        );
        return;
      }
      const [leaf, ...issuers] = [...signed.certificates, ...(await held.authority.anchors(never))].map(parseCertificate);
      assert.ok(leaf && leaf.notAfter <= held.authority.issuersEnd());
      for (const issuer of issuers) assert.ok(leaf.notAfter <= issuer.notAfter);
    },
  },
  ...Object.entries({
    'P-384': () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
    'RSA-2048': () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  } satisfies Record<string, KeyMaker>).map(
    ([kind, makeKey]): AuthorityCase => ({
      name: `certifies a ${kind} key`,
      async run(held) {
        const asked = request(held, {}, makeKey);
        const signed = await held.authority.sign(asked, never);
        assert.equal(leafOf(signed).spkiSha256, asked.spkiSha256);
        await verify(held, asked, signed);
      },
    }),
  ),
  {
    name: 'refuses a call that was cancelled before it began',
    async run(held) {
      await fails(() => held.authority.sign(request(held), AbortSignal.abort()), ['CANCELLED']);
    },
  },
  {
    name: 'settles within 100 ms of being cancelled',
    async run(held) {
      for (const afterMs of [0, 1, 5, 20]) {
        const stop = new AbortController();
        const signing = held.authority.sign(request(held), stop.signal).then(
          () => 'settled',
          () => 'settled',
        );
        await sleep(afterMs);
        stop.abort();
        // Both wait on one event loop, so a busy machine delays them alike.
        const late = sleep(cancellationMs, 'still busy', { ref: false });
        assert.equal(await Promise.race([signing, late]), 'settled', `cancelled after ${String(afterMs)} ms`);
      }
    },
  },
  {
    name: 'signs many at once, each with a serial and a key of its own',
    async run(held) {
      const asked = Array.from({ length: 40 }, () => request(held));
      const leaves = await Promise.all(asked.map(async (one) => leafOf(await held.authority.sign(one, never))));
      assert.equal(new Set(leaves.map(({ serial }) => serial)).size, asked.length);
      assert.deepEqual(
        leaves.map(({ spkiSha256 }) => spkiSha256),
        asked.map(({ spkiSha256 }) => spkiSha256),
      );
    },
  },
  {
    name: 'says that it can sign, and until when',
    async run(held) {
      const { canSign, detail } = await held.authority.health(never);
      assert.equal(canSign, true, detail);
      assert.notEqual(detail, '');
      assert.ok(held.authority.issuersEnd() > Date.now());
    },
  },
  {
    name: 'is the same CA after a restart',
    async run(held) {
      const before = await held.authority.anchors(never);
      const { issuerKeyId } = await held.authority.sign(request(held), never);
      await held.authority.close();
      held.authority = await held.subject.open();
      assert.deepEqual(fingerprints(await held.authority.anchors(never)), fingerprints(before));
      const asked = request(held);
      const signed = await held.authority.sign(asked, never);
      await verify(held, asked, signed);
      assert.equal(signed.issuerKeyId, issuerKeyId);
    },
  },
  ...authorityFaultCases,
];
