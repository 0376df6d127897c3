import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { createLocalJWKSet, jwtVerify } from 'jose';
import type { JSONWebKeySet } from 'jose';
import { SignetError } from '../../../src/base/errors.ts';
import { keySealFromKey, newKeyEncryptionKey } from '../../../src/ca/key-seal.ts';
import { parseTrustDomain } from '../../../src/spiffe/id.ts';
import { advance, publishedKeys } from '../../../src/trust/jwt-key-ring.ts';
import type { JwtKeyRing, JwtSealedKey } from '../../../src/trust/jwt-key-ring.ts';
import { bundleJwks, oidcJwks } from '../../../src/trust/jwk-documents.ts';
import { failureOf } from '../../support/failure.ts';
import { hint, jwtKeyWorld, settings } from '../../support/jwt-key-world.ts';
import type { KeyHolder } from '../../support/jwt-key-world.ts';

const signal = new AbortController().signal;
const life = settings.keyLifeMs;

type World = ReturnType<typeof jwtKeyWorld>;

interface Token {
  readonly token: string;
  readonly keyId: string;
  readonly endsAt: number;
}

async function signed(world: World, { keys }: KeyHolder): Promise<Token> {
  const endsAt = Math.floor((world.clock.now() + settings.longestTokenMs) / 1000) * 1000;
  return { ...(await keys.sign({ exp: endsAt / 1000 }, signal)), endsAt };
}

async function published({ keys }: KeyHolder): Promise<readonly string[]> {
  return (await keys.published(signal)).keys.map(({ keyId }) => keyId);
}

describe('the signing keys of JWT-SVIDs', () => {
  it('sign what the published bundle verifies, in both of its forms', async (t) => {
    const world = jwtKeyWorld();
    t.after(world.close);
    const holder = await world.open();
    const { token, keyId } = await signed(world, holder);
    const { keys } = await holder.keys.published(signal);
    for (const text of [bundleJwks(keys), oidcJwks(keys)]) {
      const set = JSON.parse(text) as JSONWebKeySet;
      const found = await jwtVerify(token, createLocalJWKSet({ keys: set.keys.map((key) => ({ ...key, use: 'sig' })) }), {
        currentDate: new Date(world.clock.now()),
      });
      assert.deepEqual(found.protectedHeader, { alg: 'ES256', kid: keyId, typ: 'JWT' });
      assert.ok(
        set.keys.every((key) => !('d' in key)),
        'no private half',
      );
    }
    const [use, sig] = [bundleJwks(keys), oidcJwks(keys)].map((text) => (JSON.parse(text) as JSONWebKeySet).keys[0]);
    assert.deepEqual([use?.use, sig?.use, sig?.alg], ['jwt-svid', 'sig', 'ES256']);
  });

  it('change over: the next one is published at half of a life, signs at its end, and the old one stays until its tokens have ended', async (t) => {
    const world = jwtKeyWorld();
    t.after(world.close);
    const holder = await world.open();
    const first = await signed(world, holder);
    assert.deepEqual(await published(holder), [first.keyId]);

    await world.pass(life / 2 - 1000);
    assert.deepEqual(await published(holder), [first.keyId]);
    await world.pass(2000);
    const [, next] = await published(holder);
    assert.ok(next, 'the next one is there');
    assert.equal((await holder.keys.published(signal)).sequence, 2);
    await world.pass(life / 2 - 2000);
    const last = await signed(world, holder);
    assert.equal(last.keyId, first.keyId);

    await world.pass(2000);
    assert.equal((await signed(world, holder)).keyId, next);
    assert.deepEqual(await published(holder), [next, first.keyId]);
    assert.equal((await holder.keys.published(signal)).sequence, 2, 'the same keys are the same bundle');
    await world.pass(last.endsAt - world.clock.now());
    assert.ok((await published(holder)).includes(first.keyId), 'until its last token has ended');
    await world.pass(10 * hint);
    assert.deepEqual(await published(holder), [next]);
    assert.equal((await holder.keys.published(signal)).sequence, 3);
  });

  it('sign on although the store is slow just when the old key is given a little more time', async (t) => {
    const world = jwtKeyWorld();
    t.after(world.close);
    const holder = await world.open({ settings: { ...settings, keyLifeMs: 12 * hint } });
    const first = await signed(world, holder);
    // Looked after ten seconds late, the next key is published ten seconds late: the old one is to sign as much longer.
    await world.pass(10_000);
    await world.pass(11 * hint);
    assert.equal((await published(holder)).length, 2);
    world.writesTake(20_000);
    world.stall(51_000);
    assert.notEqual((await signed(world, holder)).keyId, first.keyId, 'by the time that it is written, the next one has to sign');
  });

  it('are the same after a restart, and in two processes at once, whoever was first', async (t) => {
    const world = jwtKeyWorld();
    t.after(world.close);
    const [a, b] = await Promise.all([world.open(), world.open()]);
    const { keyId } = await signed(world, a);
    assert.equal((await signed(world, b)).keyId, keyId);
    assert.equal(world.writes(), 1, 'one of the two made the key');
    await world.pass(life + 1000);
    const again = await signed(world, a);
    assert.notEqual(again.keyId, keyId);
    assert.equal((await signed(world, b)).keyId, again.keyId);
    assert.deepEqual(await published(a), await published(b));
    a.close();
    const restarted = await world.open();
    assert.equal((await signed(world, restarted)).keyId, again.keyId);
  });

  it('after an outage over the whole of a life the old one goes on until the next has been published for long enough', async (t) => {
    const world = jwtKeyWorld();
    t.after(world.close);
    const before = await world.open();
    const { keyId } = await signed(world, before);
    before.close();
    await world.pass(20 * life);
    const after = await world.open();
    assert.equal((await signed(world, after)).keyId, keyId);
    const [, next] = await published(after);
    await world.pass(5 * hint);
    assert.equal((await signed(world, after)).keyId, keyId, 'five hints are not over');
    await world.pass(2 * hint);
    assert.equal((await signed(world, after)).keyId, next);
  });

  it('that wait for a store that is away sign until their time, and then nothing is signed and nothing half-known is published', async (t) => {
    const world = jwtKeyWorld();
    t.after(world.close);
    const holder = await world.open();
    holder.away = true;
    await world.pass(5 * hint);
    await signed(world, holder);
    await world.pass(2 * hint);
    for (const work of [holder.keys.sign({ exp: 1 }, signal), holder.keys.published(signal)]) {
      const failure = await failureOf(work);
      assert.equal(failure.code, 'AUTHORITY_UNAVAILABLE');
      assert.match(String(failure.cause), /the store is away/);
    }
    holder.away = false;
    await signed(world, holder);
  });

  it('refuse a token that would outlive the publication of its key', async (t) => {
    const world = jwtKeyWorld();
    t.after(world.close);
    const holder = await world.open();
    const exp = (world.clock.now() + 2 * life) / 1000;
    assert.equal((await failureOf(holder.keys.sign({ exp }, signal))).code, 'INTERNAL');
  });

  it('of a longer life of tokens are published for longer, also those that were made under a shorter one', async (t) => {
    const world = jwtKeyWorld();
    t.after(world.close);
    (await world.open()).close();
    const longer = { ...settings, longestTokenMs: 25 * hint };
    const holder = await world.open({ settings: longer });
    await world.pass(life - 1000);
    const endsAt = world.clock.now() + 25 * hint;
    const { keyId } = await holder.keys.sign({ exp: Math.floor(endsAt / 1000) }, signal);
    await world.pass(endsAt - world.clock.now());
    assert.ok((await published(holder)).includes(keyId));
  });

  it('a clock that is set far ahead does not hurry the next key, and set back again it does not freeze them', async (t) => {
    const world = jwtKeyWorld();
    t.after(world.close);
    const holder = await world.open();
    const first = await signed(world, holder);
    world.jump(1000 * life);
    await world.pass(5 * hint);
    assert.equal((await signed(world, holder)).keyId, first.keyId);
    assert.ok(world.log.lines.some(({ message }) => message.startsWith('the clock jumped')));
    await world.pass(5 * hint);
    const ahead = await signed(world, holder);
    assert.notEqual(ahead.keyId, first.keyId);
    world.jump(-1000 * life);
    await world.pass(2 * life);
    const late = await signed(world, holder);
    assert.notEqual(late.keyId, ahead.keyId, 'keys go on changing');
    assert.ok((await published(holder)).includes(ahead.keyId), 'a token of that time has not ended yet');
  });

  it('are never in the store in clear, and open with the right key-encryption key alone', async (t) => {
    const world = jwtKeyWorld();
    t.after(world.close);
    await world.open();
    const [document] = world.documents.values();
    const text = document?.value.toString() ?? '';
    assert.match(text, /"sealed":"/);
    assert.doesNotMatch(text, /"d":|PRIVATE/);
    const other = await failureOf(world.open({ seal: keySealFromKey(newKeyEncryptionKey()) }));
    assert.equal(other.code, 'KEY_UNSEALABLE');
    const elsewhere = await failureOf(world.open({ trustDomain: parseTrustDomain('other.example') }));
    assert.equal(elsewhere.code, 'STORE_MISMATCH');
  });

  it('that are damaged, or whose public half was exchanged, are refused', async (t) => {
    const world = jwtKeyWorld();
    t.after(world.close);
    const [other] = (await (await world.open()).keys.published(signal)).keys;
    const [name, document] = [...world.documents][0] ?? [];
    assert.ok(other && name !== undefined && document);
    world.documents.clear();
    await world.open();
    const mine = world.documents.get(name);
    assert.ok(mine);
    const exchanged = mine.value.toString().replace(/"x":"[^"]+","y":"[^"]+"/, `"x":"${other.x}","y":"${other.y}"`);
    for (const value of [Buffer.from('{}'), Buffer.from(exchanged), mine.value.subarray(1), Buffer.alloc(300_000, 0x20)]) {
      world.documents.set(name, { epoch: 1, value });
      assert.equal((await failureOf(world.open())).code, 'STORE_CORRUPT');
    }
  });
});

describe('the ring of keys, as a function of time', () => {
  const ringSettings = { ...settings, leadMs: 6 * hint };
  let made = 0;
  const makeKey = (): JwtSealedKey => ({ keyId: String(made++), x: '', y: '', sealed: Buffer.alloc(0) });
  /** Lets a life and more go by, steadily. */
  function lived(before: JwtKeyRing | undefined, from: number): { ring: JwtKeyRing; now: number } {
    let ring = before;
    let now = from;
    for (; now < from + 1.5 * life; now += hint) ring = advance(ring, { now, steadySince: from }, ringSettings, makeKey);
    assert.ok(ring);
    return { ring, now };
  }

  it('is the same object while nothing is due', () => {
    const ring = advance(undefined, { now: 0, steadySince: 0 }, ringSettings, makeKey);
    for (const now of [0, 1, life / 2 - 1]) assert.equal(advance(ring, { now, steadySince: 0 }, ringSettings, makeKey), ring);
  });

  it('of a clock that jumps to and fro keeps a bounded number of keys, drops none early, and gets rid of them all', () => {
    let { ring, now } = lived(undefined, 0);
    for (let jumps = 0; jumps < 40; jumps++) {
      // Each less far than the one before, whose tokens are still in force then.
      const far = (1000 - 10 * jumps) * life;
      const ahead = lived(ring, now + far);
      const back = lived(ahead.ring, ahead.now - far);
      for (const { key, publishedUntil } of ring.retired) {
        const kept = publishedKeys(back.ring).some(({ keyId }) => keyId === key.keyId);
        assert.ok(kept || publishedUntil <= ahead.now, 'no key goes before its time');
      }
      ({ ring, now } = back);
      assert.ok(publishedKeys(ring).length <= 18);
    }
    assert.ok(ring.retired.length > 10, 'keys of many futures are held');
    const { ring: later } = lived(ring, now + 2000 * life);
    assert.ok(publishedKeys(later).length <= 3);
    assert.notEqual(later.active.key.keyId, ring.active.key.keyId, 'and the change of keys goes on');
  });
});

type Happening =
  | { readonly kind: 'pass'; readonly hints: number }
  | { readonly kind: 'jump'; readonly hints: number }
  | { readonly kind: 'restart'; readonly who: number }
  | { readonly kind: 'away'; readonly who: number; readonly away: boolean };

const who = fc.nat(1);
const happening: fc.Arbitrary<Happening> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('pass' as const), hints: fc.double({ min: 0, max: 20, noNaN: true }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('pass' as const), hints: fc.constant(70) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('jump' as const), hints: fc.integer({ min: -300, max: 300 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('restart' as const), who }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('away' as const), who, away: fc.boolean() }) },
);

it('whatever happens to two processes and their clock, a token verifies by every bundle between its signing and its end', async () => {
  let rotations = 0;
  let checks = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(happening, { minLength: 5, maxLength: 40 }), async (happenings) => {
      const world = jwtKeyWorld();
      try {
        const holders = [await world.open(), await world.open()];
        const tokens = new Set<Token>();
        const signers = new Set<string>();
        const [firstEver] = await published(holders[0] as KeyHolder);

        const check = async (): Promise<void> => {
          for (const token of tokens) if (token.endsAt <= world.clock.now()) tokens.delete(token);
          const made: Token[] = [];
          for (const holder of holders) {
            const token = await orUnavailable(signed(world, holder));
            if (!token) continue;
            made.push(token);
            const since = world.writtenAt.get(token.keyId) ?? Infinity;
            // A quarter of a hint is for the other process to see it, which counts as well.
            assert.ok(token.keyId === firstEver || world.elapsed() - since >= 5.25 * hint, 'published for five hints before it signs');
          }
          assert.ok(new Set(made.map(({ keyId }) => keyId)).size <= 1, 'one key signs at a time');
          for (const token of made) tokens.add(token);
          for (const { keyId } of made) signers.add(keyId);
          for (const holder of holders) {
            const keyIds = await orUnavailable(published(holder));
            if (!keyIds) continue;
            for (const { keyId } of tokens) assert.ok(keyIds.includes(keyId), 'every token in force verifies');
            assert.equal(new Set(keyIds).size, keyIds.length);
            assert.ok(keyIds.length <= 18, 'and keys do not pile up');
            checks += tokens.size;
          }
        };

        for (const what of happenings) {
          if (what.kind === 'jump') world.jump(what.hints * hint);
          else if (what.kind === 'pass') {
            // In pieces, so that there are tokens of all times.
            for (let left = Math.round(what.hints * hint); left > 0; left -= 4 * hint) {
              await world.pass(Math.min(left, 4 * hint));
              await check();
            }
          } else if (what.kind === 'away') (holders[what.who] as KeyHolder).away = what.away;
          else {
            holders[what.who]?.close();
            holders[what.who] = await world.open();
          }
          await check();
        }
        rotations += signers.size - 1;
      } finally {
        world.close();
      }
    }),
    { numRuns: 40 },
  );
  assert.ok(rotations > 40, `only ${String(rotations)} rotations were seen`);
  assert.ok(checks > 1000);
});

async function orUnavailable<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    assert.ok(error instanceof SignetError && error.code === 'AUTHORITY_UNAVAILABLE', String(error));
    return undefined;
  }
}
