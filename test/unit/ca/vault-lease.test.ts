import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { leaseEnd, nextStep } from '../../../src/ca/vault/lease.ts';
import type { Lease } from '../../../src/ca/vault/lease.ts';
import type { VaultIssuer } from '../../../src/ca/vault/issuer.ts';
import { rootsOf, succeed } from '../../../src/ca/vault/succession.ts';
import type { Succession } from '../../../src/ca/vault/succession.ts';

const now = 1_800_000_000_000;
const leaseOf = (fields: Partial<Lease>): Lease => ({
  token: 't',
  at: now,
  ttlMs: 3_600_000,
  fullMs: 3_600_000,
  renewable: true,
  ...fields,
});

describe("a token's next step", () => {
  it('is renewal at two thirds of its life, give or take a tenth', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2000, max: 1e9 }), fc.double({ min: 0, max: 0.999, noNaN: true }), (ttlMs, random) => {
        const step = nextStep(leaseOf({ ttlMs, fullMs: ttlMs }), () => random);
        assert.ok(step);
        assert.equal(step.what, 'renew');
        assert.ok(step.at >= now + Math.max(1000, ttlMs * 0.56) && step.at <= now + Math.max(1000, ttlMs * 0.77));
        assert.ok(step.at < leaseEnd(leaseOf({ ttlMs })));
      }),
    );
  });

  it('is a new login when a renewal gave clearly less than the login did, and at once', () => {
    assert.deepEqual(
      nextStep(leaseOf({ ttlMs: 1_800_000 }), () => 0.5),
      { at: now + 1000, what: 'login' },
    );
  });

  it('is a new login at the same time if there is no renewing', () => {
    assert.equal(nextStep(leaseOf({ renewable: false }), () => 0.5)?.what, 'login');
  });

  it('is none for a token that never ends', () => {
    assert.equal(
      nextStep(leaseOf({ ttlMs: 0, fullMs: 0, renewable: false }), () => 0.5),
      undefined,
    );
    assert.equal(leaseEnd(leaseOf({ ttlMs: 0 })), Infinity);
  });
});

describe('which issuer signs', () => {
  const roots = ['a', 'b', 'c'].map((name) => Buffer.from(name));
  const issuerOf = (root: number, id: number): VaultIssuer => ({
    id: `${String(root)}-${String(id)}`,
    subject: '',
    intermediates: [Buffer.from(`i${String(root)}${String(id)}`)],
    root: roots[root] ?? Buffer.alloc(0),
    keyId: '',
    end: Infinity,
  });
  const settleMs = 60_000;
  const rules = { settleMs, mayTrust: () => true };
  const looks = fc.array(fc.record({ after: fc.integer({ min: 0, max: 90_000 }), root: fc.nat(2), id: fc.nat(1) }), { maxLength: 30 });

  it('is never one whose root has not been given out for as long as it takes to settle', () => {
    fc.assert(
      fc.property(looks, (seen) => {
        let state: Succession = succeed(undefined, issuerOf(0, 0), now, rules);
        let at = now;
        let givenOutSince = new Map([['a', -Infinity]]);
        for (const { after, root, id } of seen) {
          at += after;
          state = succeed(state, issuerOf(root, id), at, rules);
          const since = givenOutSince.get(state.active.root.toString());
          assert.ok(since !== undefined && at - since >= settleMs);
          const given = rootsOf(state).map(String);
          assert.ok(given.includes(state.active.root.toString()));
          givenOutSince = new Map(given.map((name) => [name, givenOutSince.get(name) ?? at]));
        }
      }),
    );
  });

  it('is in the end the one that Vault names, if it goes on naming it', () => {
    fc.assert(
      fc.property(looks, fc.nat(2), fc.nat(1), (seen, root, id) => {
        let state: Succession | undefined;
        let at = now;
        for (const look of seen) state = succeed(state, issuerOf(look.root, look.id), (at += look.after), rules);
        for (const after of [0, settleMs]) state = succeed(state, issuerOf(root, id), (at += after), rules);
        assert.deepEqual(state, { active: issuerOf(root, id) });
      }),
    );
  });

  it('is never one whose root may not be trusted, however long it is named', () => {
    const pinned = { settleMs, mayTrust: (root: Buffer) => root.equals(roots[0] ?? root) };
    let state = succeed(undefined, issuerOf(0, 0), now, pinned);
    for (let i = 1; i < 100; i++) state = succeed(state, issuerOf(1, 0), now + i * settleMs, pinned);
    assert.equal(state.active.id, '0-0');
  });

  it('is the successor at once when the CA certificate of the old one has ended', () => {
    const ending = { ...issuerOf(0, 0), end: now + 1000 };
    const waiting = succeed(succeed(undefined, ending, now, rules), issuerOf(1, 0), now + 1, rules);
    assert.equal(waiting.active.id, '0-0');
    assert.equal(succeed(waiting, issuerOf(1, 0), now + 1000, rules).active.id, '1-0');
  });
});
