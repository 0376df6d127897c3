import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { createRecentMap } from '../../../src/base/recent-map.ts';

const keys = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h');
const steps = fc.array(
  fc.oneof(
    fc.record({ what: fc.constantFrom<'get' | 'delete'>('get', 'delete'), key: keys }),
    fc.record({ what: fc.constant<'set'>('set'), key: keys, value: fc.nat() }),
  ),
  { maxLength: 80 },
);

describe('a map of what was used last', () => {
  it('never tells what it was not told last, holds no more than it may, and half of that for sure', () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: 0, max: 7 }), (all, capacity) => {
        const map = createRecentMap<{ readonly value: number }>(capacity);
        const told = new Map<string, number>();
        /** Oldest use first. */
        let used: string[] = [];
        for (const step of all) {
          const { what, key } = step;
          const sure = used.slice(used.length - Math.floor(capacity / 2)).includes(key);
          if (what === 'get') {
            const found = map.get(key)?.value;
            if (found !== undefined || sure) assert.equal(found, told.get(key));
            if (found === undefined) told.delete(key);
          } else if (what === 'set') {
            map.set(key, { value: step.value });
            told.set(key, step.value);
          } else {
            map.delete(key);
            told.delete(key);
          }
          used = [...used.filter((one) => one !== key), ...(told.has(key) ? [key] : [])];
          assert.ok(map.size <= capacity);
        }
        map.clear();
        assert.deepEqual([map.size, map.get('a')], [0, undefined]);
      }),
      { numRuns: 500 },
    );
  });
});
