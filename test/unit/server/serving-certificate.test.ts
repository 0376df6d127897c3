import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { createDeadlineHeap } from '../../../src/base/deadline-heap.ts';
import { openControlPlaneCa } from '../../../src/ca/control-plane.ts';
import { keySealFromKey, newKeyEncryptionKey } from '../../../src/ca/key-seal.ts';
import { openServingCertificates } from '../../../src/server/serving-certificate.ts';
import { parseTrustDomain } from '../../../src/spiffe/id.ts';
import { eventually } from '../../support/eventually.ts';
import { memoryCaState } from '../../support/memory-ca-state.ts';
import { silentLog } from '../../support/silent-log.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';

const hour = 3_600_000;
const day = 24 * hour;

test("the server's own certificate is renewed at half-life, and made anew when the clock turns out to have been ahead", async () => {
  const right = Date.UTC(2026, 0, 1);
  const clock = simulatedClock(right);
  const ca = await openControlPlaneCa({
    trustDomain: parseTrustDomain('test.example'),
    state: memoryCaState(),
    seal: keySealFromKey(newKeyEncryptionKey()),
    clock,
  });
  clock.advance(5 * day);
  const heap = createDeadlineHeap(clock, (error) => {
    throw error;
  });
  let swaps = 0;
  const serving = await openServingCertificates({ ca, names: ['localhost'], heap, clock, log: silentLog, changed: () => swaps++ });
  const swapped = (times: number) => eventually('a new serving certificate', () => (swaps === times ? true : undefined), 10_000, 2);
  const validFrom = (): number => new X509Certificate(serving.current().certificatePem).validFromDate.getTime();

  clock.set(right);
  assert.ok(validFrom() > right, 'nobody with a right clock can connect');
  serving.checkClock();
  serving.checkClock();
  await swapped(1);
  assert.ok(validFrom() <= right);

  clock.advance(16 * day);
  heap.runDue();
  await swapped(2);
  assert.equal(serving.current().notAfter, right + 46 * day);
  serving.close();
  heap.close();
});
