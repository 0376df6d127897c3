/** CA backends in trouble, on a simulated clock: gate, guard, pipeline and renewals are the real ones. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SignetError } from '../../../src/base/errors.ts';
import type { IdentityFeed, PublishedIdentity } from '../../../src/issuance/instance-entry.ts';
import { isLate } from '../../../src/issuance/lateness.ts';
import { createCsr } from '../../../src/x509/csr.ts';
import { generateKeyPair } from '../../../src/x509/keys.ts';
import { callerOf, issuingWorld } from '../../support/issuing-world.ts';
import type { IssuingWorld } from '../../support/issuing-world.ts';
import { passTime, settle } from '../../support/passing-time.ts';

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;

interface Pod {
  readonly feed: IdentityFeed;
  held(): PublishedIdentity | undefined;
}

/** Pods with an open stream each, and their first certificates. */
async function pods(world: IssuingWorld, account: string, count: number): Promise<readonly Pod[]> {
  const started = Array.from({ length: count }, (_, i): Pod => {
    const feed = world.certificates.feed(callerOf(world, account, `pod-${String(i)}`));
    assert.ok(feed);
    feed.subscribe(() => undefined);
    return {
      feed,
      held() {
        const state = feed.current();
        return typeof state === 'object' ? state : undefined;
      },
    };
  });
  await settle();
  return started;
}

function assertServed(world: IssuingWorld, fleet: readonly Pod[]): void {
  const without = fleet.filter((pod) => (pod.held()?.identity.chain.notAfter ?? 0) <= world.clock.now());
  assert.equal(without.length, 0, `${String(without.length)} of ${String(fleet.length)} have no certificate in force`);
}

const overdue = (world: IssuingWorld): number =>
  world.certificates.list().filter(({ renewable }) => renewable && isLate(renewable, world.clock.now())).length;

describe('a CA backend is away for two hours, with certificates of 12 hours coming due', () => {
  it('every pod has one in force all the time; the CA is asked about once a second, and all that is due is made up for when it is back', async () => {
    await using world = await issuingWorld({ tierMs: 12 * hour, guards: {} });
    const fleet = await pods(world, 'web', 16);
    // Into the second life, when the pods have spread; no sooner than some are due.
    await passTime(world, 14 * hour);
    const dueSoon = world.certificates.list().filter(({ spiffeId, instance }) => {
      const due = world.renewer.dueAt(`${spiffeId} ${instance}`) ?? Infinity;
      return due < world.clock.now() + 2 * hour;
    }).length;
    assert.ok(dueSoon >= 3, `${String(dueSoon)} come due`);

    world.authority.conduct = 'fail';
    const asked = world.authority.requests.length;
    const lines = world.log.lines.length;
    for (let passed = 0; passed < 2 * hour; passed += 5 * minute) {
      await passTime(world, 5 * minute);
      assertServed(world, fleet);
    }
    const calls = world.authority.requests.length - asked;
    assert.ok(calls > 60 && calls < 2 * 3600, `asked ${String(calls)} times`);
    const warned = world.log.lines.slice(lines).filter(({ level }) => level !== 'debug').length;
    assert.ok(warned < 20 * dueSoon, `${String(warned)} lines for two hours`);

    world.authority.conduct = 'good';
    await passTime(world, 2 * minute);
    assert.equal(overdue(world), 0);
    assert.ok(world.certificates.list().every(({ failures }) => failures === 0));
    assertServed(world, fleet);
  });

  it('for two lives: each is served to its end, what is overdue shows long before, and 5 s after the return all are well', async () => {
    await using world = await issuingWorld({ tierMs: 10 * minute, guards: {} });
    const fleet = await pods(world, 'web', 3);
    await passTime(world, 8 * minute);
    world.authority.conduct = 'fail';
    const last = new Map(fleet.map((pod) => [pod, pod.held()]));
    let overdueSince: number | undefined;
    for (const end = world.clock.now() + 20 * minute; world.clock.now() < end; ) {
      await passTime(world, 20 * second);
      if (overdue(world) > 0) overdueSince ??= world.clock.now();
      for (const [pod, held] of last) {
        assert.ok(held);
        const { notAfter } = held.identity.chain;
        // The newest that there was, up to its end and not a moment longer.
        if (pod.held() === undefined) assert.ok(notAfter <= world.clock.now(), 'taken away before its end');
        else assert.ok(pod.held() === held && notAfter > world.clock.now(), 'served beyond its end');
      }
    }
    const firstEnd = Math.min(...[...last.values()].map((held) => held?.identity.chain.notAfter ?? 0));
    assert.ok(overdueSince !== undefined && firstEnd - overdueSince > minute, 'told of in time');
    assert.ok(fleet.every((pod) => pod.held() === undefined));
    world.authority.conduct = 'good';
    await passTime(world, 5 * second);
    assertServed(world, fleet);
  });
});

describe('a CA backend that allows few signatures', () => {
  it('a fleet that comes due at once is told apart: no stampede, and nobody runs out', async () => {
    await using world = await issuingWorld({ tierMs: hour, guards: {} });
    const fleet = await pods(world, 'web', 60);
    let [granted, refused] = [0, 0];
    let window = { at: 0, used: 0 };
    // 5 in each second, and the rest is told to come back in one.
    world.authority.before = () => {
      const at = Math.floor(world.clock.now() / second);
      if (window.at !== at) window = { at, used: 0 };
      if (++window.used > 5) {
        refused++;
        throw new SignetError('AUTHORITY_THROTTLED', 'slow down', { retryAfterMs: second });
      }
      granted++;
    };
    // All at once, as after a change of root: the worst that a throttling CA can meet.
    const renewing = world.certificates.renew({ spiffeId: callerOf(world, 'web', undefined).spiffeId }, AbortSignal.timeout(60_000));
    await Promise.all([passTime(world, 15 * second), renewing.catch(() => undefined)]);
    for (let i = 0; i < 20; i++) {
      await passTime(world, minute);
      assertServed(world, fleet);
    }
    assert.ok(world.certificates.list().every(({ failures }) => failures === 0));
    assert.ok(granted >= 60, `${String(granted)} granted`);
    assert.ok(refused < 2 * granted, `${String(refused)} calls for nothing beside ${String(granted)}`);
    assert.equal(world.authorities.get('fake')?.guard?.circuit(), 'closed');
  });
});

describe('a slow CA backend', () => {
  it('taking 10 to 50 ms a signature it gets no more calls at a time than it may, and all are served', async () => {
    await using world = await issuingWorld({ tierMs: hour, guards: {}, gateLimits: { concurrency: () => 16 } });
    let [inside, most] = [0, 0];
    world.authority.before = async () => {
      most = Math.max(most, ++inside);
      await new Promise((resolve) => setTimeout(resolve, 10 + 40 * Math.random()));
      inside--;
    };
    const fleet = await pods(world, 'web', 200);
    while (fleet.some((pod) => pod.held() === undefined)) await settle();
    assert.equal(most, 16);
    assertServed(world, fleet);
  });
});

describe('two CA backends, each for its own identities', () => {
  it('one that is away harms only those whose own it is', async () => {
    await using world = await issuingWorld({ tierMs: minute, guards: {} });
    const fleet = await pods(world, 'web', 5);
    const others = await pods(world, 'other-web', 5);
    world.authority.conduct = 'fail';
    for (let i = 0; i < 12; i++) {
      await passTime(world, 10 * second);
      assertServed(world, others);
    }
    assert.ok(fleet.every((pod) => pod.held() === undefined));
    assert.equal(world.authorities.get('other')?.guard?.circuit(), 'closed');
  });

  it('with a fallback: it signs while the circuit of the first is open, on record under its name, and the first takes over again', async () => {
    await using world = await issuingWorld({ tierMs: minute, guards: { fallback: true } });
    const fleet = await pods(world, 'web', 5);
    const signers = async (): Promise<readonly string[]> => {
      const held = world.certificates.list().map(({ serial }) => serial ?? '');
      return Promise.all(held.map(async (serial) => (await world.store.issued.get(serial))?.authority ?? ''));
    };
    assert.deepEqual(new Set(await signers()), new Set(['fake']));
    world.authority.conduct = 'fail';
    for (let i = 0; i < 18; i++) {
      await passTime(world, 10 * second);
      assertServed(world, fleet);
    }
    assert.deepEqual(new Set(await signers()), new Set(['other']));
    world.authority.conduct = 'good';
    await passTime(world, 2 * minute);
    assertServed(world, fleet);
    assert.deepEqual(new Set(await signers()), new Set(['fake']));
  });

  it('throttling alone moves nobody to the fallback, but for those whose renewal is late already', async () => {
    await using world = await issuingWorld({ tierMs: 10 * minute, guards: { fallback: true } });
    const fleet = await pods(world, 'web', 3);
    world.authority.before = () => {
      throw new SignetError('AUTHORITY_THROTTLED', 'slow down', { retryAfterMs: 50 * second });
    };
    const firstLate = Math.min(
      ...world.certificates
        .list()
        .map(({ renewable: { issuedAt, notAfter } = { issuedAt: 0, notAfter: 0 } }) => issuedAt + 0.7 * (notAfter - issuedAt)),
    );
    let firstElsewhere: number | undefined;
    world.otherAuthority.before = () => {
      firstElsewhere ??= world.clock.now();
    };
    for (let i = 0; i < 90; i++) {
      await passTime(world, 10 * second);
      assertServed(world, fleet);
    }
    assert.ok(firstElsewhere !== undefined && firstElsewhere >= firstLate);
  });

  it('who picked a backend by its name gets no other in its stead; those whose own it is do', async () => {
    await using world = await issuingWorld({ tierMs: minute, guards: { fallback: true } });
    const others = await pods(world, 'other-web', 1);
    world.otherAuthority.conduct = 'fail';
    await passTime(world, 2 * minute);
    assertServed(world, others);
    const csr = createCsr(generateKeyPair(), []);
    const caller = callerOf(world, 'picky', undefined);
    const asked = (backend?: string) => world.issuer.issue({ mode: 'signed', caller, csr, backend }, AbortSignal.timeout(5000));
    assert.equal((await asked()).record.authority, 'fake');
    await assert.rejects(asked('other'), { code: 'AUTHORITY_UNAVAILABLE' });
  });
});
