import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createReadiness, reportHealth } from '../../../src/server/readiness.ts';

const canIssue = { readiness: () => ({ ready: true, detail: '' }) };
const status = (canSign: boolean) => () =>
  Promise.resolve([{ name: 'builtin', type: 'builtin', canSign, detail: 'the token slot is empty' }]);

test('ready means: the default CA backend can sign', async () => {
  const ready = createReadiness(canIssue, status(true), () => ['builtin']);
  const broken = createReadiness(canIssue, status(false), () => ['builtin']);
  await new Promise(setImmediate);
  assert.deepEqual(ready(), { ready: true, detail: '' });
  assert.deepEqual(broken(), { ready: false, detail: 'CA backend builtin: the token slot is empty' });
});

test('a backend that nobody gets by default does not take the server out', async () => {
  const readiness = createReadiness(canIssue, status(false), () => ['another']);
  await new Promise(setImmediate);
  assert.equal(readiness().ready, true);
});

test('a backend that is away while another signs in its stead: ready, and it says so', async () => {
  const statuses = (fallbackSigns: boolean) => () =>
    Promise.resolve([
      { name: 'vault', type: 'vault', canSign: false, detail: 'no signature for 5m (circuit open)' },
      { name: 'central', type: 'files', canSign: fallbackSigns, detail: '' },
    ]);
  const one = createReadiness(canIssue, statuses(true), () => ['vault', 'central']);
  const none = createReadiness(canIssue, statuses(false), () => ['vault', 'central']);
  await new Promise(setImmediate);
  assert.deepEqual(one(), { ready: true, detail: 'CA backend vault: no signature for 5m (circuit open); central signs in its stead' });
  assert.deepEqual(none(), { ready: false, detail: 'CA backend vault: no signature for 5m (circuit open)' });
});

test("the pipeline's own reason comes first, and backends that can't be asked change nothing", async () => {
  const behind = { readiness: () => ({ ready: false, detail: 'the clock is behind' }) };
  const readiness = createReadiness(
    behind,
    () => Promise.reject(new Error('away')),
    () => ['builtin'],
  );
  await new Promise(setImmediate);
  assert.equal(readiness().detail, 'the clock is behind');
});

test('gRPC health follows readiness, and is not serving once stopped', () => {
  const told: boolean[] = [];
  const stop = reportHealth({ setServing: (serving) => told.push(serving) }, () => ({ ready: told.length > 0, detail: '' }));
  stop();
  assert.deepEqual(told, [false, false]);
  const again = reportHealth({ setServing: (serving) => told.push(serving) }, () => ({ ready: true, detail: '' }));
  again();
  assert.deepEqual(told.slice(2), [true, false]);
});
