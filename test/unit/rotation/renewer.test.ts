import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createDeadlineHeap } from '../../../src/base/deadline-heap.ts';
import type { CertificateEvent, CertificateHappening } from '../../../src/issuance/instance-entry.ts';
import { createRenewer } from '../../../src/rotation/renewer.ts';
import { parseSpiffeId } from '../../../src/spiffe/id.ts';
import { callerOf, issuingWorld } from '../../support/issuing-world.ts';
import { passTime, settle } from '../../support/passing-time.ts';
import { seededRandom } from '../../support/seeded-random.ts';
import { silentLog } from '../../support/silent-log.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;

/** A renewer over a stand-in for issuance that only notes what it is told to do. */
function renewing() {
  const clock = simulatedClock();
  const heap = createDeadlineHeap(clock, (error) => {
    throw error;
  });
  const done: string[] = [];
  let observer: (event: CertificateEvent) => void = () => undefined;
  const renewer = createRenewer({
    heap,
    clock,
    random: seededRandom(1),
    log: silentLog,
    idleGraceMs: 5 * minute,
    certificates: {
      observe: (listener) => {
        observer = listener;
        return () => undefined;
      },
      renewNow: (name, force) => done.push(`${force ? 'resign' : 'renew'} ${name}`),
      dropIdle: (name) => done.push(`drop ${name}`),
    },
  });
  const bearer = { spiffeId: parseSpiffeId('spiffe://test.example/ns/shop/sa/web'), instance: 'p' };
  const tell = (name: string, happening: CertificateHappening): void => {
    observer({ name, bearer, mode: 'csr', ...happening });
  };
  const published = (name: string, lifeMs: number, final = false): void => {
    const now = clock.now();
    tell(name, { kind: 'published', serial: '01', issuedAt: now, notBefore: now - second, notAfter: now + lifeMs, final, fresh: true });
  };
  const close = (): void => {
    renewer.close();
    heap.close();
  };
  return { clock, heap, renewer, done, tell, published, close };
}

describe('the renewer', () => {
  it('has at most one deadline per instance, on one heap', (t) => {
    const { heap, renewer, tell, published, close, clock } = renewing();
    t.after(close);
    for (let i = 0; i < 100; i++) for (const name of ['a', 'b', 'c']) published(name, hour);
    tell('a', { kind: 'failed', code: 'AUTHORITY_UNAVAILABLE', failures: 1, notAfter: clock.now() + hour, retryAfterMs: undefined });
    assert.equal(heap.size, 3);
    assert.equal(renewer.size, 3);
    tell('a', { kind: 'gone' });
    assert.equal(heap.size, 2);
    assert.equal(renewer.dueAt('a'), undefined);
  });

  it('waits as long as it is told to when it comes too often', (t) => {
    const { renewer, tell, close, clock } = renewing();
    t.after(close);
    tell('a', { kind: 'failed', code: 'RATE_LIMITED', failures: 1, notAfter: clock.now() + hour, retryAfterMs: 40 * second });
    assert.equal(renewer.dueAt('a'), clock.now() + 40 * second);
  });

  it("looks again a second after a key's last certificate ended, not before", (t) => {
    const { renewer, published, close, clock } = renewing();
    t.after(close);
    published('a', hour, true);
    assert.equal(renewer.dueAt('a'), clock.now() + hour + second);
  });

  it('forgets an instance that is gone after the grace period, and not one that came back', (t) => {
    const { clock, heap, done, tell, published, close } = renewing();
    t.after(close);
    for (const name of ['a', 'b']) tell(name, { kind: 'idle', since: clock.now() });
    clock.advance(4 * minute);
    published('b', hour);
    clock.advance(2 * minute);
    heap.runDue();
    assert.deepEqual(done, ['drop a']);
  });

  it('signing anew for a missing key does not put off a renewal that is due sooner', (t) => {
    const { clock, renewer, tell, published, close } = renewing();
    t.after(close);
    published('a', 2 * second);
    const due = renewer.dueAt('a');
    tell('a', { kind: 'pending-key', refusals: 8 });
    assert.equal(renewer.dueAt('a'), due);
    published('b', hour);
    tell('b', { kind: 'pending-key', refusals: 1 });
    assert.ok((renewer.dueAt('b') ?? 0) <= clock.now() + 2 * second);
  });
});

describe('a clock that was set', () => {
  it('forwards: all that came due by it is done at once, and only that', (t) => {
    const { clock, renewer, done, published, close } = renewing();
    t.after(close);
    published('short', 10 * minute);
    published('long', 10 * hour);
    clock.advance(20 * minute);
    renewer.checkClock();
    assert.deepEqual(done, ['renew short']);
  });

  it('back: what is not valid yet is replaced within a second, what is valid keeps its time', (t) => {
    const { clock, heap, renewer, done, published, close } = renewing();
    t.after(close);
    published('old', 10 * hour);
    const due = renewer.dueAt('old');
    clock.advance(hour);
    published('new', 10 * hour);
    renewer.checkClock();
    clock.advance(-10 * minute);
    renewer.checkClock();
    clock.advance(second);
    heap.runDue();
    assert.deepEqual(done, ['renew new']);
    assert.equal(renewer.dueAt('old'), due);
  });

  it('back: a retry or a grace period does not become longer by the step', (t) => {
    const { clock, renewer, tell, close } = renewing();
    t.after(close);
    tell('retry', { kind: 'failed', code: 'AUTHORITY_UNAVAILABLE', failures: 1, notAfter: undefined, retryAfterMs: undefined });
    tell('idle', { kind: 'idle', since: clock.now() });
    clock.advance(-2 * hour);
    renewer.checkClock();
    assert.ok((renewer.dueAt('retry') ?? Infinity) <= clock.now() + second);
    assert.equal(renewer.dueAt('idle'), clock.now() + 5 * minute);
  });
});

describe('with the real pipeline', () => {
  it('10-second certificates are always renewed in time, for minutes on end, in every instance', async () => {
    await using world = await issuingWorld({ tierMs: 10 * second });
    const feeds = Array.from({ length: 5 }, (_, i) => {
      const feed = world.certificates.feed(callerOf(world, 'web', `pod-${String(i)}`));
      assert.ok(feed);
      feed.subscribe(() => undefined);
      return feed;
    });
    await settle();
    for (let i = 0; i < 60; i++) {
      await passTime(world, 2 * second);
      for (const feed of feeds) {
        const state = feed.current();
        assert.ok(typeof state === 'object', 'a valid certificate at every moment');
        assert.ok(state.identity.chain.notAfter > world.clock.now());
      }
    }
    assert.equal(await world.store.issued.newest().then((newest) => (newest ?? 0) > world.clock.now() - 10 * second), true);
  });

  it('the clock goes back by two minutes: certificates that nobody would accept yet are replaced at once', async () => {
    await using world = await issuingWorld({ tierMs: 10 * second });
    const feed = world.certificates.feed(callerOf(world, 'web', 'pod-1'));
    assert.ok(feed);
    feed.subscribe(() => undefined);
    await passTime(world, minute);
    world.renewer.checkClock();
    world.clock.advance(-2 * minute);
    world.renewer.checkClock();
    await passTime(world, 2 * second);
    const state = feed.current();
    assert.ok(typeof state === 'object');
    assert.ok(state.identity.chain.notBefore <= world.clock.now());
  });

  it('the clock goes back by an hour: issuing stops, the old one stays, and all heals when the clock is right again', async () => {
    await using world = await issuingWorld({ tierMs: minute });
    const feed = world.certificates.feed(callerOf(world, 'web', 'pod-1'));
    assert.ok(feed);
    feed.subscribe(() => undefined);
    await settle();
    const before = feed.current();
    assert.ok(typeof before === 'object');
    world.renewer.checkClock();
    world.clock.advance(-hour);
    world.renewer.checkClock();
    await passTime(world, 10 * second);
    assert.equal(feed.current(), before);
    assert.equal(world.issuer.readiness().ready, false);
    assert.ok(world.log.lines.some((line) => 'code' in line.fields && line.fields.code === 'CLOCK_BEHIND'));
    world.clock.advance(hour);
    world.renewer.checkClock();
    await passTime(world, 40 * second);
    assert.equal(world.issuer.readiness().ready, true);
    assert.notEqual(feed.current(), before);
    assert.equal(typeof feed.current(), 'object');
  });

  it('the clock goes forward past the end: expired ones are replaced at once', async () => {
    await using world = await issuingWorld({ tierMs: minute });
    const feed = world.certificates.feed(callerOf(world, 'web', 'pod-1'));
    assert.ok(feed);
    feed.subscribe(() => undefined);
    await settle();
    world.clock.advance(hour);
    assert.equal(feed.current(), 'pending');
    world.renewer.checkClock();
    await settle();
    await settle();
    assert.equal(typeof feed.current(), 'object');
  });
});
