import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { renewAt, resignAt, retryAt } from '../../../src/rotation/leaf-renewal.ts';
import { seededRandom } from '../../support/seeded-random.ts';

const now = Date.UTC(2026, 0, 1);
const drawn = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

describe('when a certificate is renewed', () => {
  it('is at 50 +-10 % of issuance to end, whatever the life', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1000, max: 90 * 86_400_000 }), drawn, (life, r) => {
        const wait = renewAt({ issuedAt: now, notAfter: now + life, random: () => r }) - now;
        assert.ok(wait >= life * 0.4 - 1 && wait <= life * 0.6 + 1);
      }),
    );
  });

  it('uses the whole range', () => {
    const at = (r: number): number => renewAt({ issuedAt: 0, notAfter: 1000, random: () => r });
    assert.deepEqual([at(0), at(0.5), Math.round(at(0.99999))], [400, 500, 600]);
  });
});

describe('when a failed renewal is tried again', () => {
  it('many tries fit before the end, from 10-second certificates to 90-day ones', () => {
    for (const life of [10_000, 120_000, 3_600_000, 86_400_000, 90 * 86_400_000]) {
      const random = seededRandom(life);
      const notAfter = now + life;
      let at = now + life * 0.6;
      let tries = 0;
      for (let failures = 1; at < notAfter; failures++) {
        tries++;
        const next = retryAt({ now: at, notAfter, failures, random });
        assert.ok(next > at, 'time goes on');
        assert.ok(next - at <= 60_000);
        at = next;
      }
      assert.ok(tries >= 8, `${String(life)}: ${String(tries)} tries`);
    }
  });

  it('never waits more than 3 seconds when nothing valid is held', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), drawn, fc.constantFrom(undefined, now - 1, now), (failures, r, notAfter) => {
        const wait = retryAt({ now, notAfter, failures, random: () => r }) - now;
        assert.ok(wait > 0 && wait <= 3000);
      }),
    );
  });

  it('starts at once and becomes patient', () => {
    const wait = (failures: number): number => retryAt({ now, notAfter: now + 86_400_000, failures, random: () => 0 }) - now;
    assert.deepEqual([1, 2, 3, 4, 20].map(wait), [500, 1000, 2000, 4000, 30_000]);
  });
});

describe('when a chain whose key is not there yet is signed anew', () => {
  it('backs off from two seconds to five minutes', () => {
    const wait = (refusals: number): number => resignAt({ now, refusals, random: () => 0.999999 }) - now;
    assert.deepEqual(
      [1, 2, 3, 30].map((n) => Math.round(wait(n))),
      [2000, 4000, 8000, 300_000],
    );
  });
});
