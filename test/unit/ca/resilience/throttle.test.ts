import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { comeBackMs, holdLeftMs, throttled } from '../../../../src/ca/resilience/throttle.ts';
import type { Throttle } from '../../../../src/ca/resilience/throttle.ts';
import { seededRandom } from '../../../support/seeded-random.ts';

const now = Date.UTC(2026, 0, 1);
const drawn = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

describe('a backend that throttles', () => {
  it('is left alone for as long as it asks, a minute at most, whatever it says', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 10 ** 9 }), drawn, (retryAfterMs, r) => {
        const throttle = throttled(undefined, now, retryAfterMs, () => r);
        assert.equal(holdLeftMs(throttle, now), Math.min(60_000, retryAfterMs));
        assert.ok(comeBackMs(throttle, now, () => r) >= holdLeftMs(throttle, now));
      }),
    );
  });

  it('without a hint it is left alone longer from round to round', () => {
    let throttle: Throttle | undefined;
    let at = now;
    const holds: number[] = [];
    for (let round = 0; round < 8; round++) {
      throttle = throttled(throttle, at, undefined, () => 0.999);
      holds.push(Math.round(throttle.until - at));
      at = throttle.until + 1;
    }
    assert.deepEqual(holds, [500, 1000, 1999, 3998, 7996, 15_992, 29_985, 29_985]);
  });

  it('64 answers to calls that were under way are one round, and the longest of them counts', () => {
    let throttle: Throttle | undefined;
    for (let i = 0; i < 64; i++) throttle = throttled(throttle, now + i, i === 7 ? 5000 : 1000, Math.random);
    assert.deepEqual(throttle, { until: now + 7 + 5000, rounds: 1 });
  });

  it('those who were turned away come back spread out, over longer the more often it happens', () => {
    const random = seededRandom(3);
    const busiest = (rounds: number): number => {
      const perTenth = new Map<number, number>();
      for (let i = 0; i < 1000; i++) {
        const tenth = Math.floor(comeBackMs({ until: now + 1000, rounds }, now, random) / 100);
        perTenth.set(tenth, (perTenth.get(tenth) ?? 0) + 1);
      }
      return Math.max(...perTenth.values());
    };
    assert.ok(busiest(1) < 150, 'a tenth of a second of the first round');
    assert.ok(busiest(5) < 20, 'of the fifth');
  });

  it('is forgotten once it was quiet for a while, and when the clock goes back by an hour', () => {
    const third = throttled({ until: now, rounds: 2 }, now, 1000, () => 0.5);
    assert.equal(third.rounds, 3);
    assert.equal(throttled(third, third.until + 60_000, 1000, () => 0.5).rounds, 1);
    assert.equal(holdLeftMs(third, now - 3_600_000), 0);
  });
});
