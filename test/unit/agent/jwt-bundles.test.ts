import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createJwtBundles } from '../../../src/agent/jwt-bundles.ts';
import type { Upstream } from '../../../src/agent/upstream.ts';
import { createDeadlineHeap } from '../../../src/base/deadline-heap.ts';
import { silentLog } from '../../support/silent-log.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';

const keys = '{"keys":[]}';
const good = [{ trustDomain: 'spiffe://td.test', jwks: Buffer.from(keys) }];

describe('the keys that verify JWT-SVIDs', () => {
  const answers: readonly (readonly [string, readonly unknown[]])[] = [
    ['no set at all', []],
    ['something else than a set', [{ trustDomain: 'td.test', jwks: Buffer.from('{}') }]],
    ['a set of no trust domain', [{ trustDomain: 'No Domain', jwks: Buffer.from(keys) }]],
  ];
  for (const [what, bad] of answers) {
    it(`stay when the server answers with ${what}`, async () => {
      const clock = simulatedClock();
      const heap = createDeadlineHeap(clock, assert.ifError);
      let asked = 0;
      const call: Upstream['call'] = <Response>() =>
        Promise.resolve({ bundles: asked++ === 0 ? good : bad, refreshHintSeconds: 60 } as Response);
      const bundles = createJwtBundles({
        workload: 'web',
        upstream: { call },
        withCredential: (work) => work({ kind: 'token', token: 'some.token' }),
        initial: undefined,
        keep: () => undefined,
        clock,
        heap,
        random: () => 0.5,
        log: silentLog,
      });
      bundles.start();
      await new Promise(setImmediate);
      clock.advance(60_000);
      heap.runDue();
      await new Promise(setImmediate);
      assert.equal(asked, 2);
      assert.deepEqual([...(bundles.current() ?? [])], [['spiffe://td.test', keys]]);
      bundles.close();
      heap.close();
    });
  }
});
