import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatDuration, parseDuration } from '../../../src/base/duration.ts';
import { SignetError } from '../../../src/base/errors.ts';

test('durations read as people write them', () => {
  assert.equal(parseDuration('500ms'), 500);
  assert.equal(parseDuration('20s'), 20_000);
  assert.equal(parseDuration('1h30m'), 5_400_000);
  assert.equal(parseDuration('7d'), 7 * 86_400_000);
});

test('anything else is refused with the text and an example', () => {
  for (const bad of ['', '20', 's', '-5s', '1.5h', '20 s', '1h-', '9'.repeat(60) + 's', '1000000d']) {
    assert.throws(
      () => parseDuration(bad),
      (error) => error instanceof SignetError && error.code === 'INVALID_ARGUMENT',
    );
  }
});

test('whole seconds of up to two units survive a round trip', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 59 }), fc.integer({ min: 0, max: 59 }), (minutes, seconds) => {
      const ms = (minutes * 60 + seconds) * 1000;
      assert.equal(parseDuration(formatDuration(ms)), ms);
    }),
  );
  assert.equal(formatDuration(0), '0ms');
  assert.equal(formatDuration(90_000), '1m30s');
  assert.equal(formatDuration(86_400_000), '1d');
  assert.equal(formatDuration(-1500), '-2s');
});
