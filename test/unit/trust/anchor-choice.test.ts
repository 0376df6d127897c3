import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { chooseAnchors } from '../../../src/trust/anchor-choice.ts';
import type { AnchorQuestion, Withdrawn } from '../../../src/trust/anchor-choice.ts';
import { sha256Hex } from '../../../src/x509/keys.ts';

const certificates = ['a', 'b', 'c', 'd', 'e'].map((text) => Buffer.from(text));
const hashOf = new Map(certificates.map((der) => [der, sha256Hex(der)]));
const hash = (der: Buffer): string => hashOf.get(der as Buffer<ArrayBuffer>) ?? '';
const some = fc.subarray(certificates);
const longestLifeMs = 1000;

const question = fc
  .record({
    offered: some,
    trusted: some,
    withdrawn: fc
      .tuple(some, fc.integer({ min: 0, max: 3000 }))
      .map(([list, until]): Withdrawn => new Map(list.map((der) => [hash(der), until]))),
    approved: fc.option(some, { nil: undefined }),
    distrusted: some,
    now: fc.integer({ min: 0, max: 3000 }),
  })
  .map(
    ({ approved, distrusted, ...rest }): AnchorQuestion => ({
      ...rest,
      rule: { approved: approved && new Set(approved.map(hash)), distrusted: new Set(distrusted.map(hash)) },
      longestLifeMs,
    }),
  );

describe('the choice of anchors', () => {
  it('trusts nothing that the operator distrusts or has not approved, and nothing that nobody named', () => {
    fc.assert(
      fc.property(question, (asked) => {
        for (const der of chooseAnchors(asked).anchors) {
          assert.ok(!asked.rule.distrusted.has(hash(der)));
          assert.ok(asked.rule.approved?.has(hash(der)) ?? true);
          assert.ok(asked.offered.includes(der) || asked.trusted.includes(der));
        }
      }),
    );
  });

  it('never drops what the authority names and the operator allows', () => {
    fc.assert(
      fc.property(question, (asked) => {
        const { anchors, waiting } = chooseAnchors(asked);
        for (const der of asked.offered) {
          const allowed = !asked.rule.distrusted.has(hash(der)) && (asked.rule.approved?.has(hash(der)) ?? true);
          assert.equal(anchors.includes(der), allowed);
          assert.equal(waiting.includes(der), !allowed && !asked.rule.distrusted.has(hash(der)));
        }
      }),
    );
  });

  it('asked again and again as time goes by, lets a withdrawn one go after exactly one longest life, and not before', () => {
    fc.assert(
      fc.property(some, fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 20 }), (trusted, steps) => {
        const rule = { approved: undefined, distrusted: new Set<string>() };
        let now = 10_000;
        let state = chooseAnchors({ offered: [], trusted, withdrawn: new Map(), rule, now, longestLifeMs });
        for (const step of steps) {
          now += step;
          state = chooseAnchors({ offered: [], trusted: state.anchors, withdrawn: state.withdrawn, rule, now, longestLifeMs });
          assert.equal(state.anchors.length, now < 10_000 + longestLifeMs ? trusted.length : 0);
          assert.equal(state.nextAt, state.anchors.length === 0 ? undefined : 10_000 + longestLifeMs);
        }
      }),
    );
  });

  it('gives one that is named again its place back, whatever time was left', () => {
    const rule = { approved: undefined, distrusted: new Set<string>() };
    const [a] = certificates as [Buffer];
    const left = chooseAnchors({ offered: [], trusted: [a], withdrawn: new Map(), rule, now: 0, longestLifeMs });
    const back = chooseAnchors({ offered: [a], trusted: left.anchors, withdrawn: left.withdrawn, rule, now: 999, longestLifeMs });
    assert.deepEqual([back.anchors, back.withdrawn.size, back.added.length, back.nextAt], [[a], 0, 0, undefined]);
  });

  it('is a fixed point: what it chose, it chooses again', () => {
    fc.assert(
      fc.property(question, (asked) => {
        const first = chooseAnchors(asked);
        const again = chooseAnchors({ ...asked, trusted: first.anchors, withdrawn: first.withdrawn });
        assert.deepEqual([again.added, again.dropped], [[], []]);
        assert.deepEqual(new Set(again.anchors), new Set(first.anchors));
      }),
    );
  });
});
