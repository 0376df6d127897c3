import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { createServerOrder } from '../../../src/agent/server-order.ts';

describe('which server is asked', () => {
  it('is the first, the next while it is away, and the first again after a while', () => {
    const order = createServerOrder(3, () => 0.5);
    assert.equal(order.next(0, new Set()), 0);
    order.failed(0, 0);
    assert.equal(order.next(0, new Set([0])), 1);
    assert.equal(order.next(100, new Set()), 1, 'not the one that just failed');
    assert.equal(order.next(1000, new Set()), 0);
    order.failed(0, 1000);
    assert.equal(order.next(2000, new Set()), 1, 'longer each time');
    order.answered(0);
    assert.equal(order.next(2000, new Set()), 0);
  });

  it('counts many failures of one moment once', () => {
    const order = createServerOrder(2, () => 0.5);
    for (let n = 0; n < 200; n++) order.failed(0, 0);
    assert.equal(order.next(1000, new Set()), 0);
  });

  it('is always one, whatever failed; and none twice in one attempt', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5 }), fc.array(fc.nat({ max: 4 })), fc.nat(), (count, failures, now) => {
        const order = createServerOrder(count, () => 0.5);
        failures.forEach((server, at) => {
          order.failed(server, at);
        });
        const tried = new Set<number>();
        const first = order.next(now, tried);
        assert.ok(first !== undefined && first < count);
        for (let next: number | undefined = first; next !== undefined; next = order.next(now, tried)) {
          assert.ok(!tried.has(next));
          tried.add(next);
        }
        assert.ok(tried.size <= count);
      }),
    );
  });
});
