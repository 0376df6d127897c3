import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createTurns } from '../../../src/base/turns.ts';

interface Gone {
  readonly who: number;
  readonly urgent: boolean;
  readonly turn: number;
}

/** Enters them all, those of a group in one turn of the loop, and says who went on in which turn. */
async function enterAll(perTurn: number, groups: readonly (readonly boolean[])[]): Promise<readonly Gone[]> {
  const turns = createTurns(perTurn);
  const gone: Gone[] = [];
  const all: Promise<void>[] = [];
  let turn = 0;
  let who = 0;
  // Always the first of its turn: it is scheduled before anybody enters.
  let counting = setImmediate(function count() {
    turn++;
    counting = setImmediate(count);
  });
  for (const group of groups) {
    for (const urgent of group) {
      const me = who++;
      const go = (): void => void gone.push({ who: me, urgent, turn });
      const waiting = turns.enter(urgent);
      if (waiting) all.push(waiting.then(go));
      else go();
    }
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  await Promise.all(all);
  clearImmediate(counting);
  return gone;
}

const groups = fc.array(fc.array(fc.boolean(), { maxLength: 40 }), { minLength: 1, maxLength: 8 });

test('everybody goes on once, no more than so many in a turn, and in the order in which they came', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 9 }), groups, async (perTurn, given) => {
      const gone = await enterAll(perTurn, given);
      assert.equal(new Set(gone.map(({ who }) => who)).size, given.flat().length);
      assert.equal(gone.length, given.flat().length);
      for (const [, together] of Map.groupBy(gone, ({ turn }) => turn)) assert.ok(together.length <= perTurn);
      for (const urgency of [true, false]) {
        const order = gone.filter(({ urgent }) => urgent === urgency).map(({ who }) => who);
        assert.deepEqual(
          order,
          order.toSorted((a, b) => a - b),
        );
      }
    }),
    { numRuns: 50 },
  );
});

test('who is urgent goes before those who wait already', async () => {
  const gone = await enterAll(2, [[false, false, false, false, false, false, false], [true]]);
  // Two in the first turn and two in the next, in which the urgent one comes: it is the first of the one after.
  assert.deepEqual(
    gone.map(({ who }) => who),
    [0, 1, 2, 3, 7, 4, 5, 6],
  );
});

test('after a quiet while the first go on at once', async () => {
  const turns = createTurns(2);
  for (let round = 0; round < 3; round++) {
    assert.equal(turns.enter(false), undefined);
    assert.equal(turns.enter(false), undefined);
    assert.ok(turns.enter(false));
    for (let turn = 0; turn < 3; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
  }
});
