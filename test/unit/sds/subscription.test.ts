import assert from 'node:assert/strict';
import { test } from 'node:test';
import { delta } from '../../../src/sds/delta.ts';
import type { DeltaRequest } from '../../../src/sds/request.ts';

const limits = { maxNamesPerStream: 64, maxNameBytes: 2100 };
const asking = (subscribe: readonly string[]): DeltaRequest => ({
  node: undefined,
  nonce: '',
  subscribe,
  unsubscribe: [],
  held: new Map(),
  error: undefined,
});

test('a client that asks for names that there are not, and never says what it made of the answers, leaves none of them behind', () => {
  const state = delta.start(limits);
  for (let round = 0; round < 100; round++) {
    const names = Array.from({ length: 500 }, (_, i) => `unknown-${String(round)}-${String(i)}`);
    delta.request(state, asking(names), () => undefined);
    assert.deepEqual(delta.next(state)?.removed, names);
  }
  const kept = state.unsettled.reduce((sum, { removed }) => sum + removed.length, state.gone.size + state.names.size);
  assert.equal(kept, 0);
});
