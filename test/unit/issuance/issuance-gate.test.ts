import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SignetError } from '../../../src/base/errors.ts';
import type { IssueRequest } from '../../../src/issuance/issuer.ts';
import { createCsr } from '../../../src/x509/csr.ts';
import { generateKeyPair } from '../../../src/x509/keys.ts';
import { eventually } from '../../support/eventually.ts';
import { failureOf } from '../../support/failure.ts';
import { callerOf, issuingWorld } from '../../support/issuing-world.ts';
import type { IssuingWorld } from '../../support/issuing-world.ts';

const never = new AbortController().signal;

function newcomer(world: IssuingWorld, account: string): IssueRequest {
  return { mode: 'signed', caller: callerOf(world, account, 'pod-1'), csr: createCsr(generateKeyPair(), []) };
}

async function streamOf(world: IssuingWorld): Promise<() => string> {
  const feed = world.certificates.feed(callerOf(world, 'live', 'pod-1'));
  assert.ok(feed);
  feed.subscribe(() => undefined);
  const version = (): string => {
    const state = feed.current();
    return typeof state === 'string' ? '' : state.version;
  };
  await eventually('a certificate', () => version() !== '' || undefined, 5000, 2);
  return version;
}

describe('the rate over all identities', () => {
  it('holds whoever asks, and tells each of a herd a time of its own', async () => {
    await using world = await issuingWorld({ gateLimits: { totalRate: { perSecond: 4, burst: 2 } } });
    await world.issuer.issue(newcomer(world, 'a'), never);
    await world.issuer.issue(newcomer(world, 'b'), never);
    const refused = await Promise.all(['c', 'd', 'e'].map((account) => failureOf(world.issuer.issue(newcomer(world, account), never))));
    assert.deepEqual(
      refused.map(({ code, retryAfterMs }) => [code, retryAfterMs]),
      [
        ['RATE_LIMITED', 250],
        ['RATE_LIMITED', 500],
        ['RATE_LIMITED', 750],
      ],
    );
    assert.deepEqual(world.turnedAway, ['total-rate', 'total-rate', 'total-rate']);
    for (const account of ['c', 'd', 'e']) {
      world.clock.advance(250);
      await world.issuer.issue(newcomer(world, account), never);
    }
  });

  it('is not spent by an identity that is over its own', async () => {
    await using world = await issuingWorld({
      gateLimits: { totalRate: { perSecond: 1, burst: 3 }, identityRate: { perSecond: 1, burst: 1 } },
    });
    await world.issuer.issue(newcomer(world, 'greedy'), never);
    for (let i = 0; i < 5; i++) assert.equal((await failureOf(world.issuer.issue(newcomer(world, 'greedy'), never))).code, 'RATE_LIMITED');
    await world.issuer.issue(newcomer(world, 'a'), never);
    await world.issuer.issue(newcomer(world, 'b'), never);
    assert.deepEqual(new Set(world.turnedAway), new Set(['identity-rate']));
  });
});

describe('a burst of one identity', () => {
  it('is bounded by the places and the queue, and another identity goes before what waits of it', async () => {
    await using world = await issuingWorld({ gateLimits: { concurrency: () => 16, queue: 200 } });
    const made: string[] = [];
    const refused: string[] = [];
    const ask = (account: string): Promise<unknown> =>
      world.issuer.issue(newcomer(world, account), never).then(
        () => made.push(account),
        (error: unknown) => refused.push(SignetError.from(error).code),
      );
    const burst = Array.from({ length: 100 }, () => ask('greedy'));
    const waiting = world.gate.waiting;
    await Promise.all([...burst, ask('other')]);
    assert.equal(made.length, 1 + 16 + waiting);
    assert.ok(waiting >= 40 && waiting < 84, `${String(waiting)} waited`);
    assert.deepEqual(new Set(refused), new Set(['OVERLOADED']));
    assert.ok(made.indexOf('other') <= 32, `the other was number ${String(made.indexOf('other'))}`);
  });
});

describe('a herd of newcomers and a stream whose certificate comes due', () => {
  it('by the rates: the stream is renewed while every newcomer is refused', async () => {
    await using world = await issuingWorld({
      gateLimits: { totalRate: { perSecond: 0.001, burst: 3 }, identityRate: { perSecond: 0.001, burst: 1 } },
    });
    const version = await streamOf(world);
    const first = version();
    await world.issuer.issue(newcomer(world, 'a'), never);
    await world.issuer.issue(newcomer(world, 'b'), never);
    assert.equal((await failureOf(world.issuer.issue(newcomer(world, 'c'), never))).code, 'RATE_LIMITED');
    const [held] = world.certificates.list();
    assert.ok(held?.notAfter !== undefined);
    world.certificates.renewNow(`${held.spiffeId} ${held.instance}`, false);
    await eventually('a renewal', () => version() !== first || undefined, 5000, 2);
  });

  it('by the places: a renewal goes before all who wait', async () => {
    await using world = await issuingWorld({ gateLimits: { concurrency: () => 1, queue: 40 } });
    const version = await streamOf(world);
    const first = version();
    const order: string[] = [];
    // One is inside and hangs; the others wait behind it.
    world.authority.conduct = 'hang';
    const stuck = new AbortController();
    const inside = failureOf(world.issuer.issue(newcomer(world, 'inside'), stuck.signal));
    const herd = Array.from({ length: 20 }, (_, i) =>
      world.issuer.issue(newcomer(world, `herd-${String(i)}`), never).then(() => order.push('newcomer')),
    );
    assert.equal(world.gate.waiting, 20);
    const [held] = world.certificates.list();
    assert.ok(held);
    world.certificates.renewNow(`${held.spiffeId} ${held.instance}`, false);
    await eventually('the renewal to wait', () => world.gate.waiting === 21 || undefined, 5000, 2);
    const renewed = eventually('a renewal', () => version() !== first || undefined, 5000, 1).then(() => order.unshift('renewal'));
    world.authority.conduct = 'good';
    stuck.abort();
    await Promise.all([inside, renewed, ...herd]);
    assert.equal(world.authority.requests[2]?.spiffeId, held.spiffeId, 'the first after the one that was inside');
    assert.equal(order.length, 21);
    assert.equal(world.gate.waiting, 0);
  });

  it('of streams too: their first certificates wait behind the renewal of another', async () => {
    await using world = await issuingWorld({ certificateLimits: { concurrency: 1, attemptTimeoutMs: 300 } });
    const version = await streamOf(world);
    const first = version();
    const asked = world.authority.requests.length;
    world.authority.conduct = 'hang';
    for (let i = 0; i < 30; i++) world.certificates.feed(callerOf(world, `new-${String(i)}`, 'pod-1'))?.subscribe(() => undefined);
    const [held] = world.certificates.list().filter(({ notAfter }) => notAfter !== undefined);
    assert.ok(held);
    world.certificates.renewNow(`${held.spiffeId} ${held.instance}`, false);
    await eventually('the first to be asked for', () => world.authority.requests.length === asked + 1 || undefined, 5000, 2);
    world.authority.conduct = 'good';
    await eventually('a renewal', () => version() !== first || undefined, 15_000, 5);
    assert.equal(world.authority.requests[asked + 1]?.spiffeId, held.spiffeId);
  });
});
