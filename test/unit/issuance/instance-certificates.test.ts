import assert from 'node:assert/strict';
import { X509Certificate, createPrivateKey, createPublicKey } from 'node:crypto';
import { describe, it } from 'node:test';
import type { Caller } from '../../../src/identity/caller.ts';
import type { IdentityFeed, PublishedIdentity } from '../../../src/issuance/instance-entry.ts';
import { parseSpiffeId } from '../../../src/spiffe/id.ts';
import { createCsr } from '../../../src/x509/csr.ts';
import { generateKeyPair } from '../../../src/x509/keys.ts';
import { eventually } from '../../support/eventually.ts';
import { failureOf } from '../../support/failure.ts';
import { callerOf, issuingWorld } from '../../support/issuing-world.ts';
import type { IssuingWorld } from '../../support/issuing-world.ts';
import { passTime, settle } from '../../support/passing-time.ts';

const second = 1000;
const minute = 60 * second;
const day = 1440 * minute;
const never = new AbortController().signal;
const web = parseSpiffeId('spiffe://test.example/ns/shop/sa/web');

interface Stream {
  readonly feed: IdentityFeed;
  /** Each state that it was told of. */
  readonly seen: unknown[];
  readonly stop: () => void;
}

function open(world: IssuingWorld, caller: Caller): Stream {
  const feed = world.certificates.feed(caller);
  assert.ok(feed, 'no feed');
  const seen: unknown[] = [];
  const stop = feed.subscribe(() => seen.push(feed.current()));
  return { feed, seen, stop };
}

async function published({ feed }: { feed: IdentityFeed }): Promise<PublishedIdentity> {
  return eventually(
    'a certificate',
    () => {
      const state = feed.current();
      return typeof state === 'string' ? undefined : state;
    },
    5000,
    2,
  );
}

const leafOf = (state: PublishedIdentity): X509Certificate => new X509Certificate(state.identity.chain.certificates[0]);

describe('mode server', () => {
  it('makes one certificate for an instance, shared by its streams, with the key that fits it', async () => {
    await using world = await issuingWorld();
    const [first, second_] = [open(world, callerOf(world, 'web', 'pod-1')), open(world, callerOf(world, 'web', 'pod-1'))];
    assert.equal(first.feed.current(), 'pending');
    const state = await published(first);
    assert.equal(second_.feed.current(), state, 'the very same object');
    assert.equal(first.feed.key, second_.feed.key);
    assert.equal(state.version, state.identity.chain.serial);
    assert.ok('inline' in state.identity.key);
    const own = createPublicKey(createPrivateKey(state.identity.key.inline)).export({ type: 'spki', format: 'der' });
    assert.deepEqual(leafOf(state).publicKey.export({ type: 'spki', format: 'der' }), own);
    assert.equal(world.authority.requests.length, 1);
    assert.deepEqual(first.seen, [state]);
  });

  it('makes nobody wait for a CA backend that hangs but those whose certificates it makes', async () => {
    await using world = await issuingWorld({ certificateLimits: { concurrency: 1 } });
    world.authority.conduct = 'hang';
    const stuck = ['pod-1', 'pod-2'].map((pod) => open(world, callerOf(world, 'web', pod)));
    await published(open(world, callerOf(world, 'other-web', 'pod-1')));
    assert.deepEqual(
      stuck.map(({ feed }) => feed.current()),
      ['pending', 'pending'],
    );
  });

  it('keeps a bounded number of instances that are gone, however many names a client makes up, and all that are there', async () => {
    await using world = await issuingWorld({ certificateLimits: { idleInstances: 2 } });
    const there = open(world, callerOf(world, 'web', 'there'));
    await published(there);
    for (let i = 0; i < 6; i++) {
      const gone = open(world, callerOf(world, 'web', `gone-${String(i)}`));
      await published(gone);
      gone.stop();
    }
    const kept = (): string[] => world.certificates.list().map(({ instance }) => instance);
    assert.deepEqual(kept(), ['there', 'gone-4', 'gone-5']);
    // One that comes back is none of them any more.
    const back = open(world, callerOf(world, 'web', 'gone-4'));
    for (const pod of ['gone-6', 'gone-7']) {
      const gone = open(world, callerOf(world, 'web', pod));
      await published(gone);
      gone.stop();
    }
    assert.deepEqual(kept(), ['there', 'gone-4', 'gone-6', 'gone-7']);
    await published(back);
    assert.equal(world.renewer.size, 4);
  });

  it('gives another pod of the same account a certificate and key of its own', async () => {
    await using world = await issuingWorld();
    const [one, two] = [open(world, callerOf(world, 'web', 'pod-1')), open(world, callerOf(world, 'web', 'pod-2'))];
    const [a, b] = [await published(one), await published(two)];
    assert.notEqual(a.identity.chain.spkiSha256, b.identity.chain.spkiSha256);
    assert.notEqual(one.feed.key, two.feed.key);
  });

  it('costs nothing until somebody subscribes', async () => {
    await using world = await issuingWorld();
    for (let i = 0; i < 100; i++) world.certificates.feed(callerOf(world, 'web', `pod-${String(i)}`))?.current();
    await settle();
    assert.equal(world.certificates.list().length, 0);
    assert.equal(world.authority.requests.length, 0);
  });

  it('makes a new pair at each renewal, and each version is new', async () => {
    await using world = await issuingWorld({ tierMs: 10 * second });
    const stream = open(world, callerOf(world, 'web', 'pod-1'));
    await published(stream);
    await passTime(world, minute);
    const states = stream.seen as PublishedIdentity[];
    assert.ok(states.length >= 8, String(states.length));
    assert.equal(new Set(states.map((state) => state.version)).size, states.length);
    assert.equal(new Set(states.map((state) => state.identity.chain.spkiSha256)).size, states.length);
  });

  it('drops the key of an instance that is gone for the grace period, not before', async () => {
    await using world = await issuingWorld({ idleGraceMs: 5 * minute });
    const stream = open(world, callerOf(world, 'web', 'pod-1'));
    const before = await published(stream);
    await settle();
    stream.stop();
    await passTime(world, 4 * minute);
    const again = open(world, callerOf(world, 'web', 'pod-1'));
    assert.equal(again.feed.current(), before, 'a reconnect finds the same');
    again.stop();
    await passTime(world, 6 * minute);
    assert.equal(world.certificates.list().length, 0);
    const later = open(world, callerOf(world, 'web', 'pod-1'));
    assert.notEqual((await published(later)).identity.chain.spkiSha256, before.identity.chain.spkiSha256);
  });

  it('serves a reconnect past half-life the old one at once, and renews', async () => {
    await using world = await issuingWorld({ tierMs: 10 * minute, idleGraceMs: day });
    const stream = open(world, callerOf(world, 'web', 'pod-1'));
    const before = await published(stream);
    stream.stop();
    world.clock.set(before.identity.chain.notAfter - 30 * second);
    const again = open(world, callerOf(world, 'web', 'pod-1'));
    assert.equal(again.feed.current(), before);
    // Due at once: how long it takes is the disk's matter, and the only deadline is gone meanwhile.
    await eventually('its renewal', () => (again.feed.current() === before ? undefined : true), 5000, 2);
  });

  it('needs an instance: without one the name is unknown, and the log says once what to set', async () => {
    await using world = await issuingWorld();
    const caller = callerOf(world, 'web', undefined);
    assert.equal(world.certificates.feed(caller), undefined);
    assert.equal(world.certificates.feed(caller), undefined);
    assert.equal(world.log.lines.filter((line) => line.message.includes('set "instance"')).length, 1);
  });
});

describe('mode agent', () => {
  it('has no certificate to stream', async () => {
    await using world = await issuingWorld({ keyMode: 'agent' });
    assert.equal(world.certificates.feed(callerOf(world, 'web', 'pod-1')), undefined);
  });
});

describe('mode csr', () => {
  it('is absent until a key is bound, then appears at once and names the key file', async () => {
    await using world = await issuingWorld({ keyMode: 'csr' });
    const caller = callerOf(world, 'web', 'pod-1');
    const stream = open(world, caller);
    await eventually('absent', () => (stream.feed.current() === 'absent' ? true : undefined), 5000, 2);
    const key = generateKeyPair();
    await world.bindings.bind(caller, createCsr(key, []), '/run/keys', never);
    const state = await published(stream);
    assert.deepEqual(state.identity.key, { file: `/run/keys/${key.spkiSha256}.key` });
    assert.equal(state.identity.chain.spkiSha256, key.spkiSha256);
    assert.deepEqual(stream.seen, ['absent', state]);
  });

  it('never lets a lost binding make a private key travel', async () => {
    await using world = await issuingWorld({ keyMode: 'csr', tierMs: 10 * second });
    const caller = callerOf(world, 'web', 'pod-1');
    const stream = open(world, caller);
    await world.bindings.bind(caller, createCsr(generateKeyPair(), []), '/run/keys', never);
    await published(stream);
    await world.bindings.unbind({ spiffeId: web, instance: 'pod-1' }, 'operator', never);
    await eventually('absent', () => (stream.feed.current() === 'absent' ? true : undefined), 5000, 2);
    await passTime(world, minute);
    assert.ok(stream.seen.every((state) => typeof state === 'string' || 'file' in (state as PublishedIdentity).identity.key));
  });

  it('switches to a newly bound key, and never goes back to the old one, even if that was being signed', async () => {
    await using world = await issuingWorld({ keyMode: 'csr' });
    const caller = callerOf(world, 'web', 'pod-1');
    const [old, fresh] = [generateKeyPair(), generateKeyPair()];
    await world.bindings.bind(caller, createCsr(old, []), '/run/keys', never);
    let release: () => void = () => undefined;
    world.authority.tamper = async (signed) => {
      world.authority.tamper = undefined;
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      return signed;
    };
    const stream = open(world, caller);
    await eventually('signing', () => (world.authority.requests.length === 1 ? true : undefined), 5000, 2);
    await settle();
    await world.bindings.bind(caller, createCsr(fresh, []), '/run/keys', never);
    release();
    assert.equal((await published(stream)).identity.chain.spkiSha256, fresh.spkiSha256);
    assert.equal(stream.seen.length, 1);
  });

  it('is signed again on schedule while subscribed, and not while nobody is there', async () => {
    await using world = await issuingWorld({ keyMode: 'csr', tierMs: 10 * second, idleGraceMs: day });
    const caller = callerOf(world, 'web', 'pod-1');
    const bound = await world.bindings.bind(caller, createCsr(generateKeyPair(), []), '/run/keys', never);
    const stream = open(world, caller);
    const first = await published(stream);
    await passTime(world, 30 * second);
    assert.ok(stream.seen.length >= 4);
    const last = await published(stream);
    assert.notEqual(last.version, first.version);
    assert.equal(last.identity.chain.spkiSha256, bound.spkiSha256);
    stream.stop();
    const signed = world.authority.requests.length;
    await passTime(world, 5 * minute);
    assert.equal(world.authority.requests.length, signed);
    const again = open(world, caller);
    assert.equal(again.feed.current(), 'pending', 'an expired identity is not sent to a new subscriber');
    await published(again);
  });

  it('ends with the key: no certificate outlives it, it is warned of from 75 % on, then there is none', async () => {
    await using world = await issuingWorld({ keyMode: 'csr', tierMs: day, keyMaxAgeMs: 10 * day });
    const caller = callerOf(world, 'web', 'pod-1');
    const bound = await world.bindings.bind(caller, createCsr(generateKeyPair(), []), '/run/keys', never);
    const stream = open(world, caller);
    await published(stream);
    const warned = (): number => world.log.lines.filter((line) => line.message.includes('nears its greatest age')).length;
    await passTime(world, 6 * day);
    assert.equal(warned(), 0);
    await passTime(world, 3.9 * day);
    assert.ok(warned() > 0);
    await passTime(world, 0.2 * day);
    assert.equal(stream.feed.current(), 'absent');
    const states = stream.seen.filter((state): state is PublishedIdentity => typeof state === 'object');
    assert.ok(states.every((state) => state.identity.chain.notAfter <= bound.keyEnds));
    assert.ok(states.length < 40, `no burst of ever shorter certificates at the end: ${String(states.length)}`);
  });

  it('is signed anew, with back-off, while Envoy lacks the key; each version counts once, and an ACK ends it', async () => {
    await using world = await issuingWorld({ keyMode: 'csr' });
    const caller = callerOf(world, 'web', 'pod-1');
    const bearer = { spiffeId: web, instance: 'pod-1' };
    await world.bindings.bind(caller, createCsr(generateKeyPair(), []), '/run/keys', never);
    const stream = open(world, caller);
    let state = await published(stream);
    const waits: number[] = [];
    for (let i = 0; i < 4; i++) {
      await settle();
      const version = state.version;
      world.certificates.nacked(bearer, 'key-missing', version);
      world.certificates.nacked(bearer, 'key-missing', version);
      assert.equal(world.certificates.get(bearer)?.state, 'pending-key');
      waits.push((world.renewer.dueAt(`${web} pod-1`) ?? 0) - world.clock.now());
      await passTime(world, 20 * second);
      state = await published(stream);
      assert.notEqual(state.version, version, 'new bytes');
    }
    assert.ok((waits[3] ?? 0) > 3 * (waits[0] ?? Infinity), waits.join());
    assert.equal(stream.seen.length, 5);
    world.certificates.nacked(bearer, 'key-mismatch', state.version);
    world.certificates.acknowledged(bearer);
    assert.equal(world.certificates.get(bearer)?.state, 'published');
    const due = world.renewer.dueAt(`${web} pod-1`) ?? 0;
    assert.ok(due - world.clock.now() > 60 * minute, 'back to half-life');
    world.certificates.nacked(bearer, 'bad-chain', state.version);
    assert.equal(world.certificates.get(bearer)?.state, 'published', 'signing anew cures only a missing key');
  });

  it('a binding made through another issuer is not used', async () => {
    await using world = await issuingWorld({ keyMode: 'csr' });
    await world.bindings.bind(callerOf(world, 'web', 'pod-1'), createCsr(generateKeyPair(), []), '/run/keys', never);
    const stream = open(world, callerOf(world, 'web', 'pod-1', { issuer: 'other' }));
    await eventually('absent', () => (stream.feed.current() === 'absent' ? true : undefined), 5000, 2);
    assert.equal(world.authority.requests.length, 0);
  });
});

describe('a CA in trouble', () => {
  it('hanging, then failing, for 30 s with 2-minute certificates: the identity stays served throughout', async () => {
    await using world = await issuingWorld({
      tierMs: 2 * minute,
      certificateLimits: { attemptTimeoutMs: 60 },
      issuerLimits: { signTimeoutMs: 40 },
    });
    const stream = open(world, callerOf(world, 'web', 'pod-1'));
    // Deadlines as short as these pass in real time: on a busy machine the first try may miss its own.
    const before = await eventually('a certificate', async () => {
      const state = stream.feed.current();
      if (typeof state !== 'string') return state;
      await passTime(world, second);
      return undefined;
    });
    // The worst moment: just before the renewal is due.
    const due = world.renewer.dueAt(`${web} pod-1`) ?? 0;
    await passTime(world, due - world.clock.now() - 1);
    const served = async (ms: number): Promise<void> => {
      for (const end = world.clock.now() + ms; world.clock.now() < end; ) {
        await passTime(world, second);
        await new Promise((resolve) => setTimeout(resolve, 15));
        const state = stream.feed.current();
        assert.ok(typeof state === 'object', 'served');
        assert.ok(state.identity.chain.notAfter > world.clock.now());
      }
    };
    world.authority.conduct = 'hang';
    await served(15 * second);
    assert.equal(stream.feed.current(), before);
    world.authority.conduct = 'fail';
    await served(15 * second);
    assert.equal(stream.feed.current(), before);
    assert.ok((world.certificates.list()[0]?.failures ?? 0) >= 3);
    assert.ok(
      world.log.lines.some((line) => line.level === 'warn' && 'code' in line.fields && line.fields.code === 'AUTHORITY_UNAVAILABLE'),
    );
    world.authority.conduct = 'good';
    await served(20 * second);
    assert.notEqual(stream.feed.current(), before);
    assert.equal(world.certificates.list()[0]?.failures, 0);
  });

  it('away beyond the end: nothing expired goes to anybody new, tries go on, and it heals within seconds', async () => {
    await using world = await issuingWorld({ tierMs: minute });
    const stream = open(world, callerOf(world, 'web', 'pod-1'));
    await published(stream);
    world.authority.conduct = 'fail';
    await passTime(world, 3 * minute);
    assert.equal(stream.seen.length, 1, 'nothing is taken back from those that hold it');
    const newcomer = open(world, callerOf(world, 'web', 'pod-1'));
    assert.equal(newcomer.feed.current(), 'pending');
    assert.equal(world.certificates.list()[0]?.state, 'expired');
    world.authority.conduct = 'good';
    await passTime(world, 5 * second);
    assert.equal(typeof newcomer.feed.current(), 'object');
    assert.equal(newcomer.feed.current(), stream.feed.current());
  });

  it('that returns something else than asked for never gets it published', async () => {
    await using world = await issuingWorld({ tierMs: 10 * second });
    const stream = open(world, callerOf(world, 'web', 'pod-1'));
    const before = await published(stream);
    const stranger = open(world, callerOf(world, 'api', 'pod-9'));
    const other = await published(stranger);
    world.authority.tamper = () => ({ certificates: other.identity.chain.certificates, issuerKeyId: 'ff' });
    await passTime(world, minute);
    assert.deepEqual(stream.seen, [before]);
    assert.ok(
      world.log.lines.some(
        (line) =>
          (line.level === 'error' && line.message.includes('not what is asked for')) || line.message.includes('not what was asked for'),
      ),
    );
  });
});

describe('a denied identity', () => {
  it('loses its certificate and key at once, gets no other, and comes back when the denial is lifted', async () => {
    await using world = await issuingWorld({ tierMs: 10 * second });
    const caller = callerOf(world, 'web', 'pod-1');
    const stream = open(world, caller);
    const bystander = open(world, callerOf(world, 'api', 'pod-1'));
    const before = await published(stream);
    const others = await published(bystander);
    world.denied.add(web);
    world.certificates.refuse(web);
    assert.equal(stream.feed.current(), 'absent');
    assert.equal(world.certificates.feed(caller), undefined, 'an unknown name from now on');
    assert.equal(bystander.feed.current(), others);
    await passTime(world, minute);
    assert.equal(stream.feed.current(), 'absent');
    world.denied.delete(web);
    world.certificates.readmit(web);
    assert.notEqual((await published(stream)).version, before.version);
  });

  it('denied while its certificate is being made: that one is never shown', async () => {
    await using world = await issuingWorld();
    world.authority.tamper = (signed) => {
      world.denied.add(web);
      world.certificates.refuse(web);
      return signed;
    };
    const stream = open(world, callerOf(world, 'web', 'pod-1'));
    await settle();
    await settle();
    assert.equal(stream.feed.current(), 'absent');
    assert.ok(stream.seen.every((state) => state === 'absent'));
  });
});

describe('renewal by an operator', () => {
  it('issues anew for every subscribed instance of the identity, or for the one named', async () => {
    await using world = await issuingWorld();
    const streams = ['pod-1', 'pod-2'].map((pod) => open(world, callerOf(world, 'web', pod)));
    const other = open(world, callerOf(world, 'api', 'pod-1'));
    const before = await Promise.all([...streams, other].map(published));
    const issued = await world.certificates.renew({ spiffeId: web }, never);
    assert.deepEqual(
      issued.map((one) => one.chain.serial).sort(),
      streams.map(({ feed }) => (feed.current() as PublishedIdentity).version).sort(),
    );
    assert.ok(streams.every(({ feed }, i) => feed.current() !== before[i]));
    assert.equal(other.feed.current(), before[2]);
    assert.equal((await world.certificates.renew({ spiffeId: web, instance: 'pod-2' }, never)).length, 1);
    assert.deepEqual(await world.certificates.renew({ spiffeId: web, instance: 'nobody' }, never), []);
  });

  it('says that it failed, and keeps what there is', async () => {
    await using world = await issuingWorld();
    const stream = open(world, callerOf(world, 'web', 'pod-1'));
    const before = await published(stream);
    world.authority.conduct = 'fail';
    const error = await failureOf(world.certificates.renew({ spiffeId: web }, never));
    assert.equal(error.code, 'AUTHORITY_UNAVAILABLE');
    assert.match(error.message, /1 of 1/);
    assert.equal(stream.feed.current(), before);
  });
});
