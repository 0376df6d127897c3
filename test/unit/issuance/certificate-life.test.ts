import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { SignetError } from '../../../src/base/errors.ts';
import { chooseLife, longestLifeMs } from '../../../src/issuance/certificate-life.ts';
import type { LifeRequest } from '../../../src/issuance/certificate-life.ts';

const hour = 3_600_000;
const day = 24 * hour;
const now = Date.UTC(2026, 4, 1, 12, 0, 0, 345);

const plain: LifeRequest = {
  requestedMs: undefined,
  tierMs: day,
  first: false,
  now,
  issuersEnd: now + 3650 * day,
  random: () => 1 - 1e-12,
};

function code(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return SignetError.from(error).code;
  }
  return 'none';
}

const requests = fc.record({
  requestedMs: fc.option(fc.integer({ min: 1000, max: longestLifeMs }), { nil: undefined }),
  tierMs: fc.integer({ min: 4000, max: longestLifeMs }),
  first: fc.boolean(),
  now: fc.integer({ min: Date.UTC(2020, 0), max: Date.UTC(2060, 0) }),
  untilIssuersEnd: fc.integer({ min: 0, max: 3650 * day }),
  untilKeyEnds: fc.option(fc.integer({ min: 0, max: 60 * day }), { nil: undefined }),
  drawn: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
});

describe('how long a certificate', () => {
  it('holds for every request: whole seconds, within every bound, valid now, or a refusal', () => {
    fc.assert(
      fc.property(requests, (r) => {
        const keyEnds = r.untilKeyEnds === undefined ? undefined : r.now + r.untilKeyEnds;
        const request: LifeRequest = { ...r, issuersEnd: r.now + r.untilIssuersEnd, keyEnds, random: () => r.drawn };
        let life;
        try {
          life = chooseLife(request);
        } catch (error) {
          const refused = SignetError.from(error).code;
          assert.ok(['BINDING_CONFLICT', 'AUTHORITY_UNAVAILABLE', 'INVALID_ARGUMENT'].includes(refused), refused);
          const shortest = Math.min((r.requestedMs ?? r.tierMs) * 0.5, r.tierMs * 0.5, r.untilIssuersEnd, r.untilKeyEnds ?? Infinity);
          assert.ok(shortest < 2000, 'only what leaves no whole second is refused');
          return;
        }
        assert.equal(life.notBefore % 1000, 0);
        assert.equal(life.notAfter % 1000, 0);
        assert.ok(life.notAfter <= request.issuersEnd);
        assert.ok(keyEnds === undefined || life.notAfter <= keyEnds);
        const given = life.notAfter - r.now;
        assert.ok(given >= 1000);
        const asked = Math.min(r.requestedMs ?? r.tierMs, r.tierMs);
        assert.ok(given <= asked, 'a tier is never exceeded');
        const uncapped = life.notAfter < Math.min(request.issuersEnd, keyEnds ?? Infinity) - 1000;
        if (uncapped) assert.ok(given > asked * (r.first ? 0.5 : 0.75) - 1000);
        const backdated = r.now - life.notBefore;
        assert.ok(backdated >= 1000, 'at least one second back');
        assert.ok(backdated < Math.max(1000, Math.min(120_000, given / 10)) + 1000);
      }),
      { numRuns: 2000 },
    );
  });

  it('draws a first life from 50 to 100 % and later ones from 75 to 100 %, all of it', () => {
    const share = (first: boolean, drawn: number): number =>
      Math.round(((chooseLife({ ...plain, first, random: () => drawn }).notAfter - now) / day) * 100);
    assert.deepEqual([share(true, 0), share(true, 0.5), share(true, 0.9999999)], [50, 75, 100]);
    assert.deepEqual([share(false, 0), share(false, 0.6), share(false, 0.9999999)], [75, 90, 100]);
  });

  it('backdates by two minutes, or a tenth of a short life, and never by less than a second', () => {
    const seconds = (tierMs: number): number => Math.round((now - chooseLife({ ...plain, now, tierMs }).notBefore) / 1000);
    assert.equal(seconds(day), 120);
    assert.equal(seconds(100_000), 10);
    assert.ok(seconds(10_000) >= 1 && seconds(10_000) <= 2);
  });

  it('caps what is asked for by the tier without a word, and refuses more than 90 days', () => {
    const given = chooseLife({ ...plain, requestedMs: 30 * day }).notAfter - now;
    assert.ok(given <= day && given > day - 1001);
    assert.equal(
      code(() => chooseLife({ ...plain, requestedMs: longestLifeMs })),
      'none',
    );
    assert.equal(
      code(() => chooseLife({ ...plain, requestedMs: longestLifeMs + 1 })),
      'TTL_TOO_LONG',
    );
    for (const nonsense of [0, -1, 999, Number.NaN])
      assert.equal(
        code(() => chooseLife({ ...plain, requestedMs: nonsense })),
        'INVALID_ARGUMENT',
      );
  });

  it('says whether the CA or the bound key has come to its end', () => {
    assert.equal(
      code(() => chooseLife({ ...plain, issuersEnd: now + 900 })),
      'AUTHORITY_UNAVAILABLE',
    );
    assert.equal(
      code(() => chooseLife({ ...plain, issuersEnd: now - day })),
      'AUTHORITY_UNAVAILABLE',
    );
    assert.equal(
      code(() => chooseLife({ ...plain, keyEnds: now - 1 })),
      'BINDING_CONFLICT',
    );
  });
});
