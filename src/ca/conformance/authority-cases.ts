import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { SignetError } from '../../base/errors.ts';
import type { ErrorCode } from '../../base/errors.ts';
import { spiffeId } from '../../spiffe/id.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import { checkIssued, verifyChain } from '../../x509/chain.ts';
import { createCsr } from '../../x509/csr.ts';
import { sha256Hex } from '../../x509/keys.ts';
import type { Authority, SignedChain, SigningRequest } from '../authority.ts';

/** What only the one who runs the CA can do to it. */
export interface AuthorityFaults {
  /** Nobody answers from now on; `start` brings the same CA back at the same address. */
  readonly outage: { stop(): Promise<void>; start(): Promise<void> };
  /** Opens an authority whose credential the CA refuses. */
  openRefused(): Promise<Authority>;
  /** Opens one that names something that the CA doesn't have: a role, a template, an issuer. */
  openMisconfigured(): Promise<Authority>;
  /** From now on the CA says "too many requests"; what is returned ends that. */
  throttle(): Promise<() => Promise<void>>;
  /** The CA gets a new root and signs under it from now on. The suite's last case: nothing is put back. */
  rotate(): Promise<void>;
  /** Resolves when the credential that `opened` signed in with can't be valid any more unless it was renewed. */
  outliveCredential(opened: Authority): Promise<void>;
}

export type FaultName = keyof AuthorityFaults;

export interface AuthorityUnderTest {
  readonly trustDomain: TrustDomain;
  /** Certificates between leaf and root in what it returns; undefined if that isn't known beforehand. */
  readonly intermediates: number | undefined;
  /** The shortest life that this CA can give, in ms. */
  readonly shortestLifeMs: number;
  /** After a close it may be opened again, and is the same CA. */
  open(): Promise<Authority>;
  readonly faults: Partial<AuthorityFaults>;
}

/** An authority that is open, from case to case. */
export interface OpenAuthority {
  readonly subject: AuthorityUnderTest;
  authority: Authority;
}

export interface AuthorityCase {
  readonly name: string;
  /** What the harness must be able to do, or the case is not run. */
  readonly needs?: FaultName;
  run(held: OpenAuthority): Promise<void>;
}

const never = new AbortController().signal;
export const cancellationMs = 100;
/** How long a CA that is back, or a new root, may take to be noticed. */
export const noticeMs = 60_000;

/** The second that is a minute ago: leaves are backdated. */
function aMinuteAgo(): number {
  return Math.floor(Date.now() / 1000) * 1000 - 60_000;
}

type KeyMaker = () => ReturnType<typeof generateKeyPairSync>;
const p256: KeyMaker = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });

/** A request as the issuing pipeline makes it, for a new key. */
export function signingRequest(trustDomain: TrustDomain, fields: Partial<SigningRequest> = {}, makeKey: KeyMaker = p256): SigningRequest {
  const { privateKey, publicKey } = makeKey();
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const id = fields.spiffeId ?? spiffeId(trustDomain, ['ns', 'shop', 'sa', 'web']);
  const notBefore = fields.notBefore ?? aMinuteAgo();
  return {
    spiffeId: id,
    spki,
    spkiSha256: sha256Hex(spki),
    csr: () => createCsr({ privateKey, spki }, [id]),
    notBefore,
    notAfter: notBefore + 60_000 + 3_600_000,
    ...fields,
  };
}

const request = (held: OpenAuthority, fields: Partial<SigningRequest> = {}, makeKey?: KeyMaker): SigningRequest =>
  signingRequest(held.subject.trustDomain, fields, makeKey);
const leafOf = ({ certificates }: SignedChain) => parseCertificate(certificates[0]);

/** As the issuing pipeline verifies it. */
async function verify(held: OpenAuthority, asked: SigningRequest, { certificates }: SignedChain): Promise<void> {
  const { spkiSha256, spiffeId: id, notAfter } = asked;
  const expected = { spkiSha256, spiffeId: id, notAfter };
  checkIssued({ chain: certificates, anchors: await held.authority.anchors(never), at: Date.now(), expected, signaturesTrusted: false });
}

export async function fails(work: () => Promise<unknown>, codes: readonly ErrorCode[]): Promise<SignetError> {
  let error: unknown;
  try {
    await work();
  } catch (thrown) {
    error = thrown;
  }
  if (!(error instanceof SignetError))
    throw new Error(`expected a SignetError of ${codes.join(' or ')}`, { cause: error ?? 'it succeeded' });
  assert.ok(codes.includes(error.code), `expected ${codes.join(' or ')}, got ${error.code}: ${error.message}`);
  assert.notEqual(error.message, '');
  return error;
}

/** A fault may show when the authority is opened or when it signs. */
async function openingOrSigning(held: OpenAuthority, open: () => Promise<Authority>): Promise<void> {
  const authority = await open();
  try {
    await authority.sign(request(held), never);
  } finally {
    await authority.close();
  }
}

export async function within(ms: number, what: string, attempt: () => Promise<void>): Promise<void> {
  const until = Date.now() + ms;
  for (;;) {
    try {
      await attempt();
      return;
    } catch (error) {
      if (Date.now() > until) throw new Error(`${what}: not within ${String(ms)} ms`, { cause: error });
      await sleep(250);
    }
  }
}

/** Another order of the same roots is the same answer. */
function fingerprints(anchors: readonly Buffer[]): string[] {
  return anchors.map((der) => sha256Hex(der)).sort();
}

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
  {
    name: 'says that a credential is refused',
    needs: 'openRefused',
    async run(held) {
      const { openRefused } = held.subject.faults;
      assert.ok(openRefused);
      await fails(() => openingOrSigning(held, openRefused), ['AUTHORITY_REFUSED']);
    },
  },
  {
    name: 'says that it is misconfigured, and not that it is away',
    needs: 'openMisconfigured',
    async run(held) {
      const { openMisconfigured } = held.subject.faults;
      assert.ok(openMisconfigured);
      await fails(() => openingOrSigning(held, openMisconfigured), ['AUTHORITY_MISCONFIGURED']);
    },
  },
  {
    name: 'says that it is throttled, and signs again afterwards',
    needs: 'throttle',
    async run(held) {
      const { throttle } = held.subject.faults;
      assert.ok(throttle);
      const lift = await throttle();
      await fails(async () => {
        // A quota lets the first ones through.
        for (let i = 0; i < 200; i++) await held.authority.sign(request(held), never);
      }, ['AUTHORITY_THROTTLED']);
      await lift();
      await within(noticeMs, 'signs again', async () => {
        await held.authority.sign(request(held), never);
      });
    },
  },
  {
    name: 'says that the CA is away, keeps its anchors, and signs again when it is back',
    needs: 'outage',
    async run(held) {
      const { outage } = held.subject.faults;
      assert.ok(outage);
      const before = fingerprints(await held.authority.anchors(never));
      await outage.stop();
      try {
        await fails(() => held.authority.sign(request(held), AbortSignal.timeout(5000)), ['AUTHORITY_UNAVAILABLE', 'DEADLINE_EXCEEDED']);
        assert.equal((await held.authority.health(AbortSignal.timeout(5000)).catch(() => ({ canSign: false }))).canSign, false);
      } finally {
        await outage.start();
      }
      await within(noticeMs, 'signs again', async () => {
        const asked = request(held);
        await verify(held, asked, await held.authority.sign(asked, never));
      });
      assert.deepEqual(fingerprints(await held.authority.anchors(never)), before);
    },
  },
  {
    name: 'renews its credential before that ends',
    needs: 'outliveCredential',
    async run(held) {
      const { outliveCredential } = held.subject.faults;
      assert.ok(outliveCredential);
      await outliveCredential(held.authority);
      const asked = request(held);
      await verify(held, asked, await held.authority.sign(asked, never));
    },
  },
  {
    name: 'notices that the CA has another root, and says so before a leaf chains to it',
    needs: 'rotate',
    async run(held) {
      const { rotate } = held.subject.faults;
      assert.ok(rotate);
      const before = fingerprints(await held.authority.anchors(never));
      let told = 0;
      const stop = held.authority.onChange(() => {
        told++;
      });
      await rotate();
      await within(noticeMs, 'gives the new anchors', async () => {
        // The pipeline asks for a certificate all the while; what chains to an anchor that isn't trusted yet is not used.
        const asked = request(held);
        const anchors = await held.authority.anchors(never);
        assert.ok(
          fingerprints(anchors).some((one) => !before.includes(one)),
          'the anchors are the old ones',
        );
        await verify(held, asked, await held.authority.sign(asked, never));
      });
      stop();
      assert.ok(told > 0, 'onChange was not called');
    },
  },
];
