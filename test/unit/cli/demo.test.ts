import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { count, newTally, summaryOf, totals } from '../../../src/cli/demo/tally.ts';
import type { Outcome } from '../../../src/cli/demo/tally.ts';
import { frame, line } from '../../../src/cli/demo/view.ts';

const saw = (serial: string): Outcome => ({ ok: true, serial });
const failed: Outcome = { ok: false, error: 'web: ECONNRESET' };

function play(outcomes: readonly (readonly [at: number, outcome: Outcome])[]) {
  return outcomes.reduce((tally, [at, outcome]) => count(tally, 'web', outcome, at), newTally(0, ['web']));
}

describe('what the demo counts', () => {
  it('is a rotation only when a new serial was seen', () => {
    const { services } = summaryOf(
      play([
        [0, saw('a')],
        [1, saw('a')],
        [2, saw('b')],
        [3, saw('a')],
        [4, saw('c')],
      ]),
      4000,
    );
    assert.equal(services[0]?.rotations, 2);
    assert.deepEqual(services[0].serials, ['a', 'b', 'c']);
  });

  it('counts every failure, keeps a few reasons, and measures the time without a success over them', () => {
    const tally = play([
      [0, saw('a')],
      ...Array.from({ length: 50 }, (_, i): readonly [number, Outcome] => [i + 1, failed]),
      [100, saw('a')],
    ]);
    assert.deepEqual(totals(tally), { requests: 52, failed: 50 });
    const [web] = summaryOf(tally, 1000).services;
    assert.equal(web?.errors.length, 10);
    assert.equal(web.longestGapMs, 100);
  });

  it('shows the failures, in red or not', () => {
    const shown = {
      tally: play([
        [0, saw('a')],
        [1, failed],
      ]),
      services: [{ name: 'web', spiffeId: 'spiffe://cluster.local/ns/shop/sa/web', keyMode: 'server' as const }],
      status: undefined,
      leafTtl: '20s',
      now: 1000,
      rate: 20,
      admin: '/tmp/x',
    };
    assert.match(frame(shown, { colors: false }), /2 requests, each on a new connection: 1 failed/);
    assert.match(frame(shown, { colors: false }), /ECONNRESET/);
    assert.ok(!frame(shown, { colors: false }).includes('\u001b'));
    assert.ok(frame(shown, { colors: true }).includes('\u001b[31m1 failed'));
    assert.match(line(shown), /2 requests, 1 failed/);
  });
});
