import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { createDeadlineHeap } from '../../../src/base/deadline-heap.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';

const fail = (error: unknown): void => {
  throw error instanceof Error ? error : new Error(String(error));
};

test('deadlines run in the order of their times, and equal times in the order they were set', () => {
  fc.assert(
    fc.property(fc.array(fc.record({ at: fc.integer({ min: 0, max: 50 }), cancel: fc.boolean() }), { maxLength: 60 }), (entries) => {
      const clock = simulatedClock(0);
      const heap = createDeadlineHeap(clock, fail);
      const ran: { at: number; order: number }[] = [];
      const expected: { at: number; order: number }[] = [];
      const cancels = entries.map((entry, order) => {
        if (!entry.cancel) expected.push({ at: entry.at + 1, order });
        return heap.at(entry.at + 1, () => ran.push({ at: entry.at + 1, order }));
      });
      entries.forEach((entry, i) => {
        if (entry.cancel) cancels[i]?.();
      });
      assert.equal(heap.size, expected.length);
      clock.set(100);
      heap.runDue();
      expected.sort((a, b) => a.at - b.at || a.order - b.order);
      assert.deepEqual(ran, expected);
      assert.equal(heap.size, 0);
      heap.close();
    }),
    { numRuns: 200 },
  );
});

test('nothing runs early, and a clock that jumps forward runs everything it passed', () => {
  const clock = simulatedClock(1_000);
  const heap = createDeadlineHeap(clock, fail);
  const ran: string[] = [];
  heap.at(2_000, () => ran.push('first'));
  heap.at(90 * 86_400_000, () => ran.push('in ninety days'));
  assert.equal(heap.runDue(), 2_000);
  assert.deepEqual(ran, []);
  clock.set(100 * 86_400_000);
  heap.runDue();
  assert.deepEqual(ran, ['first', 'in ninety days']);
  heap.close();
});

test('a deadline may set another one, and an error in one does not stop the next', () => {
  const clock = simulatedClock(0);
  const errors: unknown[] = [];
  const heap = createDeadlineHeap(clock, (error) => errors.push(error));
  const ran: string[] = [];
  heap.at(1, () => {
    heap.at(2, () => ran.push('set by the first'));
    throw new Error('the first failed');
  });
  heap.at(3, () => ran.push('third'));
  clock.set(10);
  heap.runDue();
  assert.deepEqual(ran, ['set by the first', 'third']);
  assert.equal(errors.length, 1);
  heap.close();
});

test('cancelling after the run, twice, or from inside the run is harmless', () => {
  const clock = simulatedClock(0);
  const heap = createDeadlineHeap(clock, fail);
  let runs = 0;
  const cancel = heap.at(1, () => {
    runs++;
    cancel();
  });
  clock.set(1);
  heap.runDue();
  cancel();
  cancel();
  assert.equal(runs, 1);
  assert.equal(heap.size, 0);
  heap.close();
});

test('what is cancelled long before its time lets go of what it would have run, and of its place', async () => {
  const clock = simulatedClock(0);
  const heap = createDeadlineHeap(clock, fail);
  const ran: number[] = [];
  heap.at(1, () => ran.push(1));
  let holder: { readonly stream: string } | undefined = { stream: 'an open stream' };
  const held = new WeakRef(holder);
  heap.at(
    1000,
    ((stream) => () => {
      assert.ok(stream);
    })(holder),
  )();
  holder = undefined;
  // A client that opens and closes streams for as long as it likes.
  for (let i = 0; i < 50_000; i++) heap.at(2000 + (i % 500), () => ran.push(-1))();
  for (let at = 900; at > 0; at -= 100) heap.at(at, () => ran.push(at));
  assert.equal(heap.size, 10);
  assert.ok(heap.entries < 2000, `${String(heap.entries)} entries for 10 deadlines`);
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  await new Promise((resolve) => setImmediate(resolve));
  collect();
  assert.equal(held.deref(), undefined);
  clock.set(5000);
  heap.runDue();
  assert.deepEqual(ran, [1, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
  heap.close();
});

test('the real timer wakes it', async () => {
  const heap = createDeadlineHeap({ now: () => Date.now() }, fail);
  await new Promise<void>((resolve) => {
    const keepAlive = setInterval(() => undefined, 1000);
    heap.at(Date.now() + 20, () => {
      clearInterval(keepAlive);
      resolve();
    });
  });
  heap.close();
});
