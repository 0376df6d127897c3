import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Bucket, takeToken } from '../../../src/base/token-bucket.ts';

test('over any span no more than the burst and the rate together are taken', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 200 }), (steps) => {
      const limits = { perSecond: 5, burst: 3 };
      let bucket: Bucket | undefined;
      let now = 0;
      let taken = 0;
      for (const step of steps) {
        now += step;
        const result = takeToken(bucket, limits, now);
        bucket = result.bucket;
        if (result.taken) taken++;
      }
      assert.ok(taken <= limits.burst + (now / 1000) * limits.perSecond + 1e-6);
    }),
  );
});

test('a refusal says when to come back, and then it is true', () => {
  const limits = { perSecond: 2, burst: 1 };
  const first = takeToken(undefined, limits, 0);
  assert.ok(first.taken);
  const second = takeToken(first.bucket, limits, 0);
  assert.ok(!second.taken);
  assert.equal(second.retryAfterMs, 500);
  assert.ok(takeToken(second.bucket, limits, second.retryAfterMs).taken);
});

test('a clock that goes back refills nothing', () => {
  const limits = { perSecond: 1, burst: 1 };
  const first = takeToken(undefined, limits, 10_000);
  assert.ok(!takeToken(first.bucket, limits, 5_000).taken);
});
