import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createRateLimiter } from '../../../src/issuance/rate-limiter.ts';

const limits = { perSecond: 1, burst: 2 };

describe('a rate for each identity', () => {
  it('limits each by itself, says when to come back, and refills', () => {
    const limiter = createRateLimiter('certificates', limits, 10);
    for (const key of ['a', 'b']) {
      limiter.take(key, 0);
      limiter.take(key, 0);
      assert.throws(() => {
        limiter.take(key, 0);
      }, /too many certificates for this identity: retry in 1000 ms/);
    }
    limiter.take('a', 1000);
  });

  it('limits however few it may remember, and remembers no more than that', () => {
    for (const entries of [0, 1, 2, 10]) {
      const limiter = createRateLimiter('certificates', limits, entries);
      limiter.take('a', 0);
      limiter.take('a', 0);
      assert.throws(
        () => {
          limiter.take('a', 0);
        },
        /too many/,
        String(entries),
      );
      for (let other = 0; other < 50; other++) limiter.take(`other-${String(other)}`, 0);
      assert.ok(limiter.size <= Math.max(2, entries));
    }
  });

  it('does not forget who was refused while fewer than half of what it holds came by', () => {
    const limiter = createRateLimiter('certificates', limits, 10);
    limiter.take('a', 0);
    limiter.take('a', 0);
    for (let other = 0; other < 4; other++) limiter.take(`other-${String(other)}`, 0);
    assert.throws(() => {
      limiter.take('a', 0);
    }, /too many/);
  });
});
