import assert from 'node:assert/strict';
import { test } from 'node:test';
import { published } from '../../../src/workload-api/published.ts';

test('a state is encoded once, however many ask, and an equal one is the same message', () => {
  let state: { readonly text: string } | 'pending' | 'denied' = 'pending';
  let encoded = 0;
  const current = published(
    () => state,
    ({ text }: { readonly text: string }) => {
      encoded++;
      return Buffer.from(text);
    },
  );
  assert.equal(current(), 'pending');
  state = { text: 'one' };
  const one = current();
  for (let i = 0; i < 100; i++) assert.equal(current(), one);
  assert.equal(encoded, 1);
  state = { text: 'one' };
  assert.equal(current(), one);
  state = { text: 'two' };
  assert.deepEqual(current(), Buffer.from('two'));
  state = 'denied';
  assert.equal(current(), 'denied');
  assert.equal(encoded, 3);
});
