import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Random } from '../../../src/base/clock.ts';
import { createDeadlineHeap } from '../../../src/base/deadline-heap.ts';
import { chooseLife } from '../../../src/issuance/certificate-life.ts';
import type { CertificateEvent } from '../../../src/issuance/instance-entry.ts';
import { createRenewer } from '../../../src/rotation/renewer.ts';
import { parseSpiffeId } from '../../../src/spiffe/id.ts';
import { seededRandom } from '../../support/seeded-random.ts';
import { silentLog } from '../../support/silent-log.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';

const minute = 60_000;
const day = 86_400_000;
const bucketMs = 15 * minute;

/** Issuances in each quarter of an hour of a week, 10,000 instances having started within the first minute. */
function simulateWeek(instances: number, random: Random): number[] {
  const clock = simulatedClock();
  const start = clock.now();
  const heap = createDeadlineHeap(clock, (error) => {
    throw error;
  });
  const counts = new Array<number>((7 * day) / bucketMs).fill(0);
  const issuedBefore = new Set<string>();
  const bearer = { spiffeId: parseSpiffeId('spiffe://test.example/ns/shop/sa/web'), instance: '' };
  let observer: (event: CertificateEvent) => void = () => undefined;

  // Stands for issuance: each renewal succeeds at once. The life and the schedule are the real code's.
  function issue(name: string): void {
    const now = clock.now();
    const first = !issuedBefore.has(name);
    issuedBefore.add(name);
    const life = chooseLife({ requestedMs: undefined, tierMs: day, first, now, issuersEnd: start + 365 * day, random });
    const bucket = Math.floor((now - start) / bucketMs);
    if (bucket < counts.length) counts[bucket] = (counts[bucket] ?? 0) + 1;
    observer({ kind: 'published', name, bearer, mode: 'server', serial: '01', issuedAt: now, ...life, final: false, fresh: true });
  }

  const renewer = createRenewer({
    heap,
    clock,
    random,
    log: silentLog,
    certificates: {
      observe: (listener) => {
        observer = listener;
        return () => undefined;
      },
      renewNow: issue,
      dropIdle: () => undefined,
    },
  });
  for (let i = 0; i < instances; i++) {
    heap.at(start + random() * minute, () => {
      issue(`instance-${String(i)}`);
    });
  }
  for (let next: number | undefined = start; next !== undefined && next < start + 7 * day; next = heap.runDue()) clock.set(next);
  renewer.close();
  heap.close();
  return counts;
}

describe('10,000 instances started in one minute, with 24-hour certificates', () => {
  const counts = simulateWeek(10_000, seededRandom(20_260_101));
  const perDay = day / bucketMs;
  const later = counts.slice(perDay);
  const mean = later.reduce((sum, n) => sum + n, 0) / later.length;

  it('renew about twice per life, for the whole week', () => {
    // Lives average 21 h and are renewed half-way: 96 quarters of an hour a day, 10,000 every 10.5 h.
    const expected = 10_000 / (10.5 * 4);
    assert.ok(Math.abs(mean - expected) / expected < 0.05, `mean ${mean.toFixed(1)}, expected about ${expected.toFixed(1)}`);
  });

  it('have spread by the second day: the busiest 15 minutes at most 1.6 times the mean', () => {
    const ratio = Math.max(...later) / mean;
    assert.ok(ratio <= 1.6, ratio.toFixed(2));
  });

  it('do not come back as one wave: the first at most 2.5 times the mean', () => {
    const ratio = Math.max(...counts.slice(1, perDay)) / mean;
    assert.ok(ratio <= 2.5, ratio.toFixed(2));
  });
});
