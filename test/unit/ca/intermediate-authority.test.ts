import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SignetError } from '../../../src/base/errors.ts';
import type { Authority } from '../../../src/ca/authority.ts';
import { openIntermediateAuthority } from '../../../src/ca/intermediate/intermediate-authority.ts';
import type { IntermediateAuthorityOptions } from '../../../src/ca/intermediate/intermediate-authority.ts';
import { keySealFromKey, newKeyEncryptionKey } from '../../../src/ca/key-seal.ts';
import { parseTrustDomain } from '../../../src/spiffe/id.ts';
import { parseCertificate } from '../../../src/x509/certificate.ts';
import { verifyChain } from '../../../src/x509/chain.ts';
import { generateKeyPair, sha256Hex } from '../../../src/x509/keys.ts';
import { authoritySuite, signingRequest } from '../../support/authority-suite.ts';
import { eventually } from '../../support/eventually.ts';
import { fakeIntermediateUpstream } from '../../support/fake-intermediate-upstream.ts';
import type { FakeIntermediateUpstream, Twist } from '../../support/fake-intermediate-upstream.ts';
import { memoryCaState } from '../../support/memory-ca-state.ts';
import { recordingLog } from '../../support/recording-log.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';
import type { SimulatedClock } from '../../support/simulated-clock.ts';
import { silentLog } from '../../support/silent-log.ts';
import { systemClock } from '../../../src/base/clock.ts';

const trustDomain = parseTrustDomain('example.org');
const never = new AbortController().signal;
const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;

type Options = Omit<IntermediateAuthorityOptions, 'upstream' | 'clock'>;

function options(fields: Partial<Options> = {}): Options {
  return {
    name: 'below',
    trustDomain,
    state: memoryCaState(),
    seal: keySealFromKey(newKeyEncryptionKey()),
    lifeMs: 10 * day,
    distributionMs: 2 * minute,
    mayTrust: () => true,
    random: () => 0.5,
    log: silentLog,
    ...fields,
  };
}

interface World extends AsyncDisposable {
  readonly clock: SimulatedClock;
  readonly upstream: FakeIntermediateUpstream;
  readonly authority: Authority;
  /** The keys that signed leaves asked for now, again and again, until it is this one's turn. */
  sign(): Promise<{ readonly keyId: string; readonly chain: readonly Buffer[] }>;
}

async function world(
  fields: Partial<Options> = {},
  before: (upstream: FakeIntermediateUpstream) => void = () => undefined,
): Promise<World> {
  const clock = simulatedClock();
  const upstream = fakeIntermediateUpstream({ clock });
  before(upstream);
  const authority = await openIntermediateAuthority({ ...options(fields), upstream, clock });
  return {
    clock,
    upstream,
    authority,
    async sign() {
      const asked = signingRequest(trustDomain, { notBefore: clock.now() - minute, notAfter: clock.now() + hour });
      const { certificates, issuerKeyId } = await authority.sign(asked, never);
      verifyChain(certificates, await authority.anchors(never), clock.now());
      return { keyId: issuerKeyId, chain: certificates };
    },
    [Symbol.asyncDispose]: () => authority.close(),
  };
}

async function fails(work: Promise<unknown>): Promise<SignetError> {
  const failure = await work.then(
    () => undefined,
    (error: unknown) => SignetError.from(error),
  );
  assert.ok(failure, 'it succeeded');
  return failure;
}

const hashes = (ders: readonly Buffer[]): string[] => ders.map((der) => sha256Hex(der)).sort();

authoritySuite({
  name: 'intermediate',
  engine: 'below an upstream in memory',
  trustDomain,
  intermediates: 1,
  make() {
    const same = options({ distributionMs: 1000 });
    const upstream = fakeIntermediateUpstream({ clock: systemClock });
    const open = (): Promise<Authority> => openIntermediateAuthority({ ...same, upstream, clock: systemClock });
    return Promise.resolve({
      open,
      faults: {
        openRefused() {
          const refusing = fakeIntermediateUpstream({ clock: systemClock });
          refusing.conduct = 'refuses';
          return openIntermediateAuthority({ ...options(), upstream: refusing, clock: systemClock });
        },
        rotate() {
          const next = upstream.newRoot();
          upstream.named = [...upstream.named, next];
          upstream.signing = next;
          upstream.changed();
          return Promise.resolve();
        },
      },
      dispose: () => Promise.resolve(),
    });
  },
});

describe('an intermediate of ours below another CA', () => {
  it('has a key of its own, for the trust domain, for leaves only', async () => {
    await using it_ = await world();
    const { chain } = await it_.sign();
    const [, intermediate] = chain.map(parseCertificate);
    assert.ok(intermediate);
    assert.deepEqual(intermediate.uris, ['spiffe://example.org']);
    assert.equal(intermediate.pathLength, 0);
    assert.equal(intermediate.notAfter, it_.clock.now() + 10 * day);
    assert.equal(it_.authority.issuersEnd(), intermediate.notAfter);
    const [request] = it_.upstream.requests;
    assert.equal(request?.spkiSha256, intermediate.spkiSha256);
  });

  it('is renewed at about half of its life with a new key, and leaves under the old one stay good', async () => {
    await using it_ = await world();
    const first = await it_.sign();
    it_.clock.advance(4.4 * day);
    assert.equal((await it_.sign()).keyId, first.keyId);
    it_.clock.advance(0.7 * day);
    await eventually('another key', async () => (await it_.sign()).keyId !== first.keyId || undefined);
    assert.equal(it_.upstream.requests.length, 2);
    const [, old] = first.chain.map(parseCertificate);
    assert.ok(old && old.notAfter > it_.clock.now());
    verifyChain(first.chain.slice(1), await it_.authority.anchors(never), it_.clock.now());
  });

  it('signs on with the one that it has while its upstream is away, to its very end; and has a new one within seconds after that', async () => {
    await using it_ = await world();
    const first = await it_.sign();
    it_.upstream.conduct = 'away';
    for (const ms of [5 * day, 4 * day, 23 * hour]) {
      it_.clock.advance(ms);
      assert.equal((await it_.sign()).keyId, first.keyId);
    }
    await eventually(
      'what ails it',
      async () => /is good until .* the upstream is away/.test((await it_.authority.health(never)).detail) || undefined,
    );
    it_.clock.advance(2 * hour);
    assert.equal((await fails(it_.sign())).code, 'AUTHORITY_UNAVAILABLE');
    assert.equal((await it_.authority.health(never)).canSign, false);
    it_.upstream.conduct = 'good';
    it_.clock.advance(5000);
    const next = await eventually('a signature', () => it_.sign());
    assert.notEqual(next.keyId, first.keyId);
  });

  it('says that its upstream is away long before that matters, and when it is back', async () => {
    await using it_ = await world();
    await it_.sign();
    for (const [ails, told] of [
      ['nobody answers there', /is good until [^;]*; nobody answers there$/],
      [undefined, /is good until [^;]*$/],
    ] as const) {
      it_.upstream.ails = ails;
      it_.clock.advance(minute);
      await it_.sign();
      await eventually('it is told', async () => told.test((await it_.authority.health(never)).detail) || undefined);
      assert.equal((await it_.authority.health(never)).canSign, true);
    }
    assert.equal(it_.upstream.requests.length, 1);
  });

  it('asks once for all who wait for the first one, and says to all of them why there is none', async () => {
    await using it_ = await world({}, (upstream) => {
      upstream.conduct = 'refuses';
    });
    const failures = await Promise.all(Array.from({ length: 20 }, () => fails(it_.sign())));
    assert.deepEqual([...new Set(failures.map(({ code }) => code))], ['AUTHORITY_REFUSED']);
    assert.ok(it_.upstream.requests.length <= 1);
  });

  it('publishes a new root of its upstream first, and signs under it once everybody has it', async () => {
    await using it_ = await world();
    const first = await it_.sign();
    const [old] = it_.upstream.named;
    const next = it_.upstream.newRoot();
    assert.ok(old);
    it_.upstream.named = [old, next];
    it_.upstream.signing = next;
    let told = 0;
    it_.authority.onChange(() => told++);
    it_.upstream.changed();
    await eventually('both roots', async () => (await it_.authority.anchors(never)).length === 2 || undefined);
    assert.ok(told > 0);
    it_.clock.advance(5.5 * day);
    // The root has long been known: what hangs on it may be used at once.
    const second = await eventually('another key', async () => {
      const signed = await it_.sign();
      return signed.keyId === first.keyId ? undefined : signed;
    });
    verifyChain(second.chain, [next.certificate], it_.clock.now());

    // This time the old ones are gone at once: there is nothing to wait for at the upstream, but for our peers there is.
    const third = it_.upstream.newRoot();
    it_.upstream.named = [third];
    it_.upstream.signing = third;
    it_.upstream.changed();
    await eventually('a third intermediate', () => it_.upstream.requests.length === 3 || undefined);
    assert.equal((await it_.sign()).keyId, second.keyId, 'the new root is not with everybody yet');
    assert.ok(hashes(await it_.authority.anchors(never)).includes(sha256Hex(next.certificate)), 'leaves under the old root are still out');
    it_.clock.advance(2 * minute + 1000);
    const last = await eventually('the third key', async () => {
      const signed = await it_.sign();
      return signed.keyId === second.keyId ? undefined : signed;
    });
    verifyChain(last.chain, [third.certificate], it_.clock.now());
  });

  it('signs nothing under a root that the operator has yet to approve, and asks for it once', async () => {
    const approved = new Set<string>();
    await using it_ = await world({ mayTrust: (root) => approved.has(sha256Hex(root)) }, (upstream) => {
      approved.add(sha256Hex(upstream.signing.certificate));
    });
    const first = await it_.sign();
    const next = it_.upstream.newRoot();
    it_.upstream.named = [next];
    it_.upstream.signing = next;
    it_.upstream.changed();
    await eventually('the next one', () => it_.upstream.requests.length === 2 || undefined);
    for (let i = 0; i < 4; i++) {
      it_.clock.advance(day);
      assert.equal((await it_.sign()).keyId, first.keyId);
    }
    assert.equal(it_.upstream.requests.length, 2);
    assert.match((await it_.authority.health(never)).detail, new RegExp(`add ${sha256Hex(next.certificate)} to approvedAnchors`));
    approved.add(sha256Hex(next.certificate));
    it_.clock.advance(minute);
    await eventually('its key', async () => (await it_.sign()).keyId !== first.keyId || undefined);
  });

  it('has the roots that its upstream named last, after a restart without it, and signs on', async () => {
    const same = options();
    const clock = simulatedClock();
    const upstream = fakeIntermediateUpstream({ clock });
    const first = await openIntermediateAuthority({ ...same, upstream, clock });
    const asked = () => signingRequest(trustDomain, { notBefore: clock.now() - minute, notAfter: clock.now() + hour });
    const { issuerKeyId } = await first.sign(asked(), never);
    const anchors = await first.anchors(never);
    await first.close();
    upstream.conduct = 'away';
    const second = await openIntermediateAuthority({ ...same, upstream, clock });
    assert.deepEqual(hashes(await second.anchors(never)), hashes(anchors));
    assert.equal((await second.sign(asked(), never)).issuerKeyId, issuerKeyId);
    await second.close();
  });

  it('is one for all replicas of a store', async () => {
    const same = options();
    const clock = simulatedClock();
    const upstream = fakeIntermediateUpstream({ clock });
    const replicas = await Promise.all(Array.from({ length: 3 }, () => openIntermediateAuthority({ ...same, upstream, clock })));
    const asked = () => signingRequest(trustDomain, { notBefore: clock.now() - minute, notAfter: clock.now() + hour });
    const keys = async () => new Set(await Promise.all(replicas.map(async (one) => (await one.sign(asked(), never)).issuerKeyId)));
    // Who lost the race to the store takes what is there.
    await eventually('one key', async () => {
      clock.advance(30_000);
      return (await keys()).size === 1 || undefined;
    });
    await Promise.all(replicas.map((one) => one.close()));
  });

  const { spki } = generateKeyPair();
  for (const [what, twist, message] of [
    ['is for another key', { spki }, /for another key/],
    ['lives longer', { notAfter: Date.UTC(2030, 0, 1) }, /lives longer/],
    ['allows CAs below it', { pathLength: 1 }, /path length must be 0/],
    ['is of another trust domain', { uri: 'spiffe://other.org' }, /names something else/],
    ['hangs on a root that it never named', { unknownRoot: true }, /does not chain to a trusted root/],
  ] satisfies readonly (readonly [string, Twist, RegExp])[]) {
    it(`uses no CA certificate that ${what}`, async () => {
      const log = recordingLog();
      await using it_ = await world({ log }, (upstream) => {
        upstream.twist = twist;
      });
      const failure = await fails(it_.sign());
      assert.equal(failure.code, 'AUTHORITY_MISBEHAVED');
      assert.match(failure.message, message);
      assert.ok(log.lines.some(({ message: line }) => line.includes('no new intermediate CA certificate')));
    });
  }

  it('keeps its key sealed, and says so when it can be opened no more', async () => {
    const state = memoryCaState();
    await using it_ = await world({ state });
    await it_.sign();
    const stored = [...state.documents.values()].map(({ value }) => value.toString('utf8')).join();
    assert.doesNotMatch(stored, /PRIVATE|MIGHAgEAMBMG/);
    const upstream = fakeIntermediateUpstream({ clock: it_.clock });
    const other = options({ state });
    const failure = await fails(openIntermediateAuthority({ ...other, upstream, clock: it_.clock }));
    assert.equal(failure.code, 'KEY_UNSEALABLE');
  });

  it('is not opened for another trust domain than it was made for', async () => {
    const state = memoryCaState();
    await using it_ = await world({ state });
    await it_.sign();
    const upstream = fakeIntermediateUpstream({ clock: it_.clock });
    const other = options({ state, trustDomain: parseTrustDomain('other.org') });
    assert.equal((await fails(openIntermediateAuthority({ ...other, upstream, clock: it_.clock }))).code, 'STORE_MISMATCH');
  });
});
