import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { decodeJwt } from 'jose';
import { SignetError } from '../../../src/base/errors.ts';
import { keySealFromKey, newKeyEncryptionKey } from '../../../src/ca/key-seal.ts';
import type { Caller } from '../../../src/identity/caller.ts';
import { createJwtSvids } from '../../../src/issuance/jwt-svids.ts';
import type { JwtSvidsDeps } from '../../../src/issuance/jwt-svids.ts';
import { parseTrustDomain } from '../../../src/spiffe/id.ts';
import { openJwtKeys } from '../../../src/trust/jwt-keys.ts';
import { failureOf } from '../../support/failure.ts';
import { callerOf, issuingWorld } from '../../support/issuing-world.ts';

const signal = new AbortController().signal;
const minute = 60_000;

/** JWT-SVIDs with keys, policy and store of their own, as the server wires them. */
async function svidWorld(changes: Partial<JwtSvidsDeps> = {}) {
  const issuing = await issuingWorld();
  const keys = await openJwtKeys({
    state: issuing.store.trust,
    seal: keySealFromKey(newKeyEncryptionKey()),
    trustDomain: parseTrustDomain('test.example'),
    clock: issuing.clock,
    elapsed: issuing.clock.now,
    log: issuing.log,
    settings: { keyLifeMs: 1440 * minute, refreshHintMs: 5 * minute, longestTokenMs: 5 * minute },
  });
  const { policy, recorder, clock, log } = issuing;
  const deps = { policy, signer: keys, recorder, clock, log, issuer: undefined, ttlMs: 5 * minute, newestIssuedAt: undefined };
  const svids = createJwtSvids({ ...deps, rate: { perSecond: 1000, burst: 1000 }, ...changes });
  return {
    issuing,
    keys,
    svids,
    caller: (more: Partial<Caller> = {}) => callerOf(issuing, 'web', 'pod:web-0', more),
    async [Symbol.asyncDispose]() {
      keys.close();
      await issuing[Symbol.asyncDispose]();
    },
  };
}

describe('a JWT-SVID', () => {
  it('ends with the credential that it was asked by, if that is earlier', async () => {
    await using world = await svidWorld();
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 999 }), fc.integer({ min: 1, max: 10 * minute }), async (fraction, left) => {
        world.issuing.clock.set(Date.UTC(2026, 0, 1) + fraction);
        const now = world.issuing.clock.now();
        const credentialEnds = now + left;
        const work = world.svids.issue({ caller: world.caller({ credentialEnds }), audience: ['db'], spiffeId: '' }, signal);
        if (Math.floor(credentialEnds / 1000) <= Math.floor(now / 1000)) {
          assert.equal((await failureOf(work)).code, 'TOKEN_EXPIRED');
          return;
        }
        const svid = await work;
        const { iat = 0, exp = 0 } = decodeJwt(svid.token);
        assert.deepEqual([iat, exp], [svid.issuedAt, svid.expiresAt]);
        assert.ok(exp > iat && exp * 1000 <= credentialEnds && exp * 1000 <= now + 5 * minute);
        assert.ok(exp * 1000 > Math.min(credentialEnds, now + 5 * minute) - 1000, 'and not earlier than it must');
      }),
      { numRuns: 50 },
    );
  });

  it('has each audience once, in the order asked', async () => {
    await using world = await svidWorld();
    const { token } = await world.svids.issue({ caller: world.caller(), audience: ['b', 'a', 'b'], spiffeId: '' }, signal);
    assert.deepEqual(decodeJwt(token).aud, ['b', 'a']);
  });

  it('of any audience at all is a token with just that, or a refusal that has nothing of it', async () => {
    await using world = await svidWorld();
    await fc.assert(
      fc.asyncProperty(fc.array(fc.string({ unit: 'binary', maxLength: 3000 }), { maxLength: 20 }), async (audience) => {
        try {
          const { token } = await world.svids.issue({ caller: world.caller(), audience, spiffeId: '' }, signal);
          assert.deepEqual(decodeJwt(token).aud, [...new Set(audience)]);
        } catch (error) {
          assert.ok(error instanceof SignetError && error.code === 'INVALID_ARGUMENT', String(error));
          for (const name of audience) assert.ok(name.length < 8 || !error.message.includes(name));
        }
      }),
      { numRuns: 100 },
    );
  });

  it('is not shown if its caller is stopped while it is made', async () => {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    await using world = await svidWorld({ recorder: { audit: () => promise } });
    const caller = world.caller();
    const work = world.svids.issue({ caller, audience: ['db'], spiffeId: '' }, signal);
    world.issuing.denied.add(caller.spiffeId);
    resolve(undefined);
    assert.equal((await failureOf(work)).code, 'IDENTITY_DENIED');
  });

  it('is not shown if the trail can not be written, and the next one tries again', async () => {
    let works = false;
    let tries = 0;
    const audit = (): Promise<void> => {
      tries++;
      return works ? Promise.resolve() : Promise.reject(new SignetError('INTERNAL', 'the disk is full'));
    };
    await using world = await svidWorld({ recorder: { audit } });
    const request = { caller: world.caller(), audience: ['db'], spiffeId: '' };
    assert.equal((await failureOf(world.svids.issue(request, signal))).message, 'the disk is full');
    works = true;
    await world.svids.issue(request, signal);
    await world.svids.issue(request, signal);
    assert.equal(tries, 2, 'once for a key, an identity and an audience');
    await world.svids.issue({ ...request, audience: ['cache'] }, signal);
    assert.equal(tries, 3);
  });

  it('is not made while the clock is far behind what was issued', async () => {
    await using world = await svidWorld();
    const request = { caller: world.caller(), audience: ['db'], spiffeId: '' };
    await world.svids.issue(request, signal);
    world.issuing.clock.advance(-4 * minute);
    await world.svids.issue(request, signal);
    world.issuing.clock.advance(-2 * minute);
    assert.equal((await failureOf(world.svids.issue(request, signal))).code, 'CLOCK_BEHIND');
  });
});
