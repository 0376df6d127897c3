import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backoffMs } from '../../../src/base/backoff.ts';
import { abortable, deadlineSignal } from '../../../src/base/deadline.ts';
import { grpcStatus, SignetError } from '../../../src/base/errors.ts';

const code = (expected: string) => (error: unknown) => error instanceof SignetError && error.code === expected;

test('work that ignores its signal is left behind when the deadline passes', async () => {
  const forever = new Promise<never>(() => undefined);
  await assert.rejects(abortable(forever, deadlineSignal(10)), code('DEADLINE_EXCEEDED'));
});

test('a caller that goes away cancels, whatever the deadline', async () => {
  const caller = new AbortController();
  const pending = abortable(new Promise<never>(() => undefined), deadlineSignal(60_000, caller.signal));
  caller.abort();
  await assert.rejects(pending, code('CANCELLED'));
});

test('a signal aborted beforehand never starts, and the late failure of the work is not unhandled', async () => {
  await assert.rejects(abortable(Promise.reject(new Error('late')), AbortSignal.abort()), code('CANCELLED'));
});

test('what finishes in time is returned', async () => {
  assert.equal(await abortable(Promise.resolve(7), deadlineSignal(1000)), 7);
});

test('back-off doubles to its ceiling and keeps at least half of it', () => {
  const limits = { baseMs: 100, maxMs: 1_000 };
  assert.equal(
    backoffMs(0, limits, () => 0),
    50,
  );
  assert.equal(
    backoffMs(2, limits, () => 0.5),
    300,
  );
  assert.equal(
    backoffMs(1_000, limits, () => 0),
    500,
  );
  assert.ok(backoffMs(1_000, limits, () => 0.999) <= 1_000);
});

test("a foreign error's text never becomes the public message", () => {
  const error = SignetError.from(new Error('password=hunter2'));
  assert.equal(error.code, 'INTERNAL');
  assert.equal(error.message, 'internal error');
  assert.equal(grpcStatus(error.code), 13);
  const own = new SignetError('RATE_LIMITED', 'slow down', { retryAfterMs: 5 });
  assert.equal(SignetError.from(own), own);
});
