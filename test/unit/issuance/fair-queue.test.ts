import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { SignetError } from '../../../src/base/errors.ts';
import { createFairQueue } from '../../../src/issuance/fair-queue.ts';
import type { FairQueue, FairQueueLimits, ShedReason } from '../../../src/issuance/fair-queue.ts';
import { failureOf } from '../../support/failure.ts';

const never = new AbortController().signal;

function open(limits: Partial<FairQueueLimits> = {}): { queue: FairQueue; shed: ShedReason[]; entered: string[]; ask: Ask } {
  const shed: ShedReason[] = [];
  const entered: string[] = [];
  const queue = createFairQueue(
    { concurrency: 1, queue: 100, waitMs: 60_000, ...limits },
    { random: () => 0.5, shed: (why) => shed.push(why) },
  );
  const ask: Ask = (key, urgent = false, signal = never) => {
    const turn = queue.enter(key, urgent, signal);
    if (turn) return turn.then(() => void entered.push(key));
    entered.push(key);
    return Promise.resolve();
  };
  return { queue, shed, entered, ask };
}

type Ask = (key: string, urgent?: boolean, signal?: AbortSignal) => Promise<void>;

async function leaveAll(queue: FairQueue, times: number): Promise<void> {
  for (let i = 0; i < times; i++) {
    queue.leave();
    await sleep(0);
  }
}

describe('a fair queue', () => {
  it('makes nobody wait, nor a promise, while there is room', async () => {
    const { queue } = open({ concurrency: 2 });
    assert.equal(queue.enter('a', false, never), undefined);
    assert.equal(queue.enter('a', false, never), undefined);
    const third = queue.enter('a', false, never);
    assert.ok(third instanceof Promise);
    queue.leave();
    await third;
  });

  it('serves one of each in turn, however many one of them sends', async () => {
    const { queue, entered, ask } = open();
    const all = ['first', 'herd', 'herd', 'herd', 'herd', 'web', 'web', 'api'].map((key) => ask(key));
    await leaveAll(queue, all.length - 1);
    await Promise.all(all);
    assert.deepEqual(entered, ['first', 'herd', 'web', 'api', 'herd', 'web', 'herd', 'herd']);
  });

  it('serves those who are urgent before all others, and lets them wait beyond its length', async () => {
    const { queue, entered, ask } = open({ queue: 4 });
    const all = [ask('first'), ask('a'), ask('b'), ask('c'), ask('d')];
    assert.equal((await failureOf(ask('e'))).code, 'OVERLOADED');
    for (let i = 0; i < 3; i++) all.push(ask('live', true));
    await leaveAll(queue, 7);
    await Promise.all(all);
    assert.deepEqual(entered, ['first', 'live', 'live', 'live', 'a', 'b', 'c', 'd']);
  });

  it('refuses at once beyond its length, and beyond a quarter of it for one key, saying when to come back', async () => {
    const { queue, shed, ask } = open({ queue: 8 });
    void ask('first');
    const herd = [ask('herd'), ask('herd')];
    const refused = await failureOf(ask('herd'));
    assert.equal(refused.code, 'OVERLOADED');
    assert.equal(refused.retryAfterMs, 2000);
    for (const key of ['a', 'b', 'c']) herd.push(ask(key), ask(key));
    assert.equal((await failureOf(ask('last'))).code, 'OVERLOADED');
    assert.deepEqual(shed, ['identity-share', 'queue-full']);
    assert.equal(queue.waiting, 8);
    await leaveAll(queue, 8);
    await Promise.all(herd);
    assert.equal(queue.waiting, 0);
  });

  it('turns away who has waited too long', async () => {
    const { queue, shed, ask } = open({ waitMs: 20 });
    void ask('first');
    const late = await failureOf(ask('late'));
    assert.equal(late.code, 'OVERLOADED');
    assert.ok((late.retryAfterMs ?? 0) >= 1000);
    assert.deepEqual(shed, ['waited-too-long']);
    assert.equal(queue.waiting, 0);
  });

  it('forgets at once who has gone away, and takes nobody who is gone already', async () => {
    const { queue, entered, ask } = open();
    void ask('first');
    const gone = new AbortController();
    const waiting = ask('gone', false, gone.signal);
    const next = ask('next');
    assert.equal(queue.waiting, 2);
    gone.abort(new SignetError('CANCELLED', 'the client went away'));
    assert.equal(queue.waiting, 1);
    assert.equal((await failureOf(waiting)).code, 'CANCELLED');
    assert.equal((await failureOf(ask('late', false, gone.signal))).code, 'CANCELLED');
    queue.leave();
    await next;
    assert.deepEqual(entered, ['first', 'next']);
  });

  it('never lets in more than may be, loses no place, and serves nobody twice, whatever comes and goes', async () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('enter' as const), key: fc.constantFrom('a', 'b', 'c'), urgent: fc.boolean() }),
      fc.record({ kind: fc.constant('leave' as const) }),
      fc.record({ kind: fc.constant('abort' as const), which: fc.nat(20) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 3 }), async (steps, concurrency) => {
        const queue = createFairQueue({ concurrency, queue: 8, waitMs: 60_000 }, { random: () => 0, shed: () => undefined });
        let inside = 0;
        const waiters: { readonly abort: AbortController; state: 'waiting' | 'in' | 'gone' }[] = [];
        for (const one of steps) {
          if (one.kind === 'enter') {
            const abort = new AbortController();
            const turn = queue.enter(one.key, one.urgent, abort.signal);
            if (turn) {
              const waiter = { abort, state: 'waiting' as 'waiting' | 'in' | 'gone' };
              waiters.push(waiter);
              turn.then(
                () => {
                  assert.equal(waiter.state, 'waiting');
                  waiter.state = 'in';
                  inside++;
                },
                () => (waiter.state = 'gone'),
              );
            } else inside++;
          } else if (one.kind === 'leave' && inside > 0) {
            inside--;
            queue.leave();
          } else if (one.kind === 'abort') {
            waiters[one.which]?.abort.abort(new SignetError('CANCELLED', 'gone'));
          }
          await sleep(0);
          assert.ok(inside <= concurrency);
          const waiting = waiters.filter(({ state }) => state === 'waiting').length;
          assert.equal(queue.waiting, waiting);
          assert.ok(waiting === 0 || inside === concurrency, 'nobody waits beside a free place');
        }
        for (; inside > 0; inside--) {
          queue.leave();
          await sleep(0);
        }
        for (const { abort } of waiters) abort.abort(new SignetError('CANCELLED', 'the end'));
      }),
      { numRuns: 40 },
    );
  });
});
