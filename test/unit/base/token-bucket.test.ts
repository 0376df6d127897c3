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

test('a herd that obeys comes back one by one, and each of it is served then', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 50 }), (herd, perSecond) => {
      const limits = { perSecond, burst: 1 };
      let bucket: Bucket | undefined;
      let due = Array.from({ length: herd }, () => 0);
      let tries = 0;
      while (due.length > 0) {
        const now = Math.min(...due);
        const [, ...rest] = due.toSorted((a, b) => a - b);
        const result = takeToken(bucket, limits, now);
        bucket = result.bucket;
        tries++;
        due = result.taken ? rest : [...rest, now + result.retryAfterMs];
      }
      // Sent away once; beyond what can be served within the longest promise, once for each such span.
      const spans = Math.ceil(herd / perSecond / 10);
      assert.ok(tries <= herd * (2 + spans), `${String(tries)} tries for ${String(herd)}`);
    }),
  );
});

test('who may overdraw is served while others wait until that is made up for', () => {
  const limits = { perSecond: 10, burst: 5 };
  let bucket: Bucket | undefined;
  const take = (now: number, overdraft: number) => {
    const result = takeToken(bucket, limits, now, overdraft);
    bucket = result.bucket;
    return result;
  };
  for (let i = 0; i < 10; i++) assert.ok(take(0, 5).taken);
  const beyond = take(0, 5);
  assert.ok(!beyond.taken);
  assert.equal(beyond.retryAfterMs, 100);
  const other = take(0, 0);
  assert.ok(!other.taken);
  assert.equal(other.retryAfterMs, 600);
  assert.ok(take(600, 0).taken);
});
