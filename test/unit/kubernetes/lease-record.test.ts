import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { decide, leaseTerms, readLease, see, writeLease } from '../../../src/kubernetes/lease-record.ts';
import type { LeaseRecord, LeaseSeen } from '../../../src/kubernetes/lease-record.ts';

const place = { namespace: 'signet', name: 'signet-bundle' };

/** An API server's Lease: a write that names an old version is refused. */
function leaseServer() {
  let stored: { readonly object: object; readonly version: number } | undefined;
  return {
    get: (): LeaseRecord | undefined =>
      stored && readLease({ ...stored.object, metadata: { resourceVersion: String(stored.version) } }, leaseTerms),
    put(object: object, before: LeaseRecord | undefined): boolean {
      if (before?.resourceVersion !== (stored && String(stored.version))) return false;
      stored = { object, version: (stored?.version ?? 0) + 1 };
      return true;
    },
  };
}

describe('the lease of the one who publishes', () => {
  it('is made, kept, left alone while it is another one’s, and taken over when that one no longer writes', () => {
    const server = leaseServer();
    const step = (self: string, seen: LeaseSeen | undefined, now: number) => {
      const record = server.get();
      const next = see(seen, record, now);
      const decision = decide(self, next, now);
      if (decision !== 'wait') assert.ok(server.put(writeLease(place, self, record, leaseTerms, now), record));
      return { seen: see(next, server.get(), now), decision };
    };
    let [a, b] = [step('a', undefined, 0), step('b', undefined, 1000)];
    assert.deepEqual([a.decision, b.decision], ['create', 'wait']);
    a = step('a', a.seen, 2000);
    assert.equal(a.decision, 'renew');
    for (let now = 3000; now < 18_000; now += 2000) {
      b = step('b', b.seen, now);
      assert.equal(b.decision, 'wait', `at ${String(now)}`);
    }
    b = step('b', b.seen, 18_001);
    assert.equal(b.decision, 'take');
    assert.equal(server.get()?.transitions, 1);
    // Whoever comes back late finds another holder.
    assert.equal(step('a', a.seen, 18_002).decision, 'wait');
  });

  it('goes at once to another when it is given up', () => {
    const server = leaseServer();
    server.put(writeLease(place, 'a', undefined, leaseTerms, 0), undefined);
    const held = server.get();
    server.put(writeLease(place, '', held, leaseTerms, 5), held);
    assert.equal(decide('b', see(undefined, server.get(), 6), 6), 'take');
  });

  it('never has two leaders who keep to the terms, however their steps fall and whatever their wall clocks say', () => {
    const steps = fc.array(
      fc.record({ who: fc.integer({ min: 0, max: 2 }), waitMs: fc.integer({ min: 0, max: 6000 }), skew: fc.integer() }),
      {
        maxLength: 200,
      },
    );
    fc.assert(
      fc.property(steps, (all) => {
        const server = leaseServer();
        const seen = new Map<number, LeaseSeen>();
        /** When each last knew that it held the lease: it leads until its renewal deadline from then on. */
        const renewed = new Map<number, number>();
        let now = 0;
        for (const { who, waitMs, skew } of all) {
          now += waitMs;
          const self = `process-${String(who)}`;
          const record = server.get();
          seen.set(who, see(seen.get(who), record, now));
          const known = seen.get(who);
          const decision = known && decide(self, known, now);
          const wallClock = Math.abs(skew) + now;
          if (decision !== 'wait' && server.put(writeLease(place, self, record, leaseTerms, wallClock), record)) renewed.set(who, now);
          else if (decision === 'wait') renewed.delete(who);
          const leading = [...renewed.values()].filter((at) => now - at < leaseTerms.renewDeadlineMs);
          assert.ok(leading.length <= 1, `${String(leading.length)} lead at ${String(now)}`);
        }
      }),
    );
  });
});
