import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createBindings } from '../../../src/issuance/bindings.ts';
import { createCsr } from '../../../src/x509/csr.ts';
import { generateKeyPair } from '../../../src/x509/keys.ts';
import { eventually } from '../../support/eventually.ts';
import { failureOf } from '../../support/failure.ts';
import { callerOf, issuingWorld } from '../../support/issuing-world.ts';
import type { IssuingWorld } from '../../support/issuing-world.ts';

const day = 86_400_000;
const never = new AbortController().signal;
const csrOf = (key = generateKeyPair(), uris: readonly string[] = []): Buffer => createCsr(key, uris);

async function auditOf(world: IssuingWorld): Promise<string[]> {
  return (await world.store.audit.list(100)).items.map((entry) => `${entry.action} ${entry.subject} ${entry.detail}`);
}

describe('BindKey', () => {
  it("binds the key of the request to the caller's instance, durably and on the audit record", async () => {
    await using world = await issuingWorld({ keyMode: 'csr' });
    const key = generateKeyPair();
    const caller = callerOf(world, 'web', 'pod-1');
    const binding = await world.bindings.bind(caller, csrOf(key), '/run/keys/web', never);
    assert.equal(binding.keyFile, `/run/keys/web/${key.spkiSha256}.key`);
    assert.equal(binding.keyEnds, world.clock.now() + 30 * day);
    assert.deepEqual(await world.store.bindings.get(caller.spiffeId, 'pod-1'), binding);
    assert.equal(await world.store.bindings.get(caller.spiffeId, 'pod-2'), undefined);
    const [entry] = await auditOf(world);
    assert.match(entry ?? '', new RegExp(`^key.bind ${caller.spiffeId} pod-1 key ${key.spkiSha256}`));
  });

  it('is for callers with a token, with an instance, and with key mode csr by policy', async () => {
    await using world = await issuingWorld({ keyMode: 'csr' });
    const bind = (changes: object, instance: string | undefined = 'pod-1'): Promise<unknown> =>
      world.bindings.bind(callerOf(world, 'web', instance, changes), csrOf(), '/run/keys', never);
    assert.equal((await failureOf(bind({ authenticatedBy: 'certificate' }))).code, 'PERMISSION_DENIED');
    const without = await failureOf(world.bindings.bind(callerOf(world, 'web', undefined), csrOf(), '/run/keys', never));
    assert.equal(without.code, 'INSTANCE_REQUIRED');
    assert.match(without.message, /"instance"/);
    world.denied.add('spiffe://test.example/ns/shop/sa/web');
    assert.equal((await failureOf(bind({}))).code, 'IDENTITY_DENIED');
    await using served = await issuingWorld({ keyMode: 'server' });
    const wrongMode = await failureOf(served.bindings.bind(callerOf(served, 'web', 'pod-1'), csrOf(), '/run/keys', never));
    assert.equal(wrongMode.code, 'PERMISSION_DENIED');
    assert.match(wrongMode.message, /key mode server/);
    assert.equal((await world.bindings.list(10)).items.length, 0);
  });

  it('takes no directory outside the allowed ones, and no name but the own', async () => {
    await using world = await issuingWorld({ keyMode: 'csr' });
    const caller = callerOf(world, 'web', 'pod-1');
    for (const directory of ['/etc', '/run/keys/../../etc', '/run/keysx', 'run/keys', '/run/keys/a b', '/run/keys/']) {
      assert.equal((await failureOf(world.bindings.bind(caller, csrOf(), directory, never))).code, 'INVALID_ARGUMENT', directory);
    }
    const foreign = await failureOf(
      world.bindings.bind(caller, csrOf(generateKeyPair(), ['spiffe://test.example/ns/shop/sa/admin']), '/run/keys', never),
    );
    assert.equal(foreign.code, 'INVALID_CSR');
    const tampered = csrOf();
    tampered[tampered.length - 5] = (tampered[tampered.length - 5] ?? 0) ^ 0xff;
    assert.equal((await failureOf(world.bindings.bind(caller, tampered, '/run/keys', never))).code, 'INVALID_CSR');
  });

  it('replaces an earlier binding of the same instance; the old key stays listed until its last certificate ends', async () => {
    await using world = await issuingWorld({ keyMode: 'csr' });
    const [old, fresh] = [generateKeyPair(), generateKeyPair()];
    const caller = callerOf(world, 'web', 'pod-1');
    const bound = await world.bindings.bind(caller, csrOf(old), '/run/keys', never);
    const issued = await world.issuer.issue({ mode: 'csr', caller, bound }, never);
    assert.deepEqual(await world.bindings.superseded({ spiffeId: caller.spiffeId, instance: 'pod-1' }, never), []);
    await world.bindings.bind(caller, csrOf(fresh), '/run/keys', never);
    const bearer = { spiffeId: caller.spiffeId, instance: 'pod-1' };
    assert.equal((await world.bindings.get(bearer, never))?.spkiSha256, fresh.spkiSha256);
    assert.deepEqual(await world.bindings.superseded(bearer, never), [
      { spkiSha256: old.spkiSha256, ends: issued.notAfter, serials: [issued.chain.serial] },
    ]);
    world.clock.set(issued.notAfter + 1);
    assert.deepEqual(await world.bindings.superseded(bearer, never), []);
  });

  it('refuses an instance that another issuer vouched for, until that binding is taken away', async () => {
    await using world = await issuingWorld({ keyMode: 'csr' });
    const caller = callerOf(world, 'web', 'pod-1');
    await world.bindings.bind(caller, csrOf(), '/run/keys', never);
    const other = callerOf(world, 'web', 'pod-1', { issuer: 'other' });
    const conflict = await failureOf(world.bindings.bind(other, csrOf(), '/run/keys', never));
    assert.equal(conflict.code, 'BINDING_CONFLICT');
    assert.match(conflict.message, /certs unbind/);
    const bearer = { spiffeId: caller.spiffeId, instance: 'pod-1' };
    assert.equal(await world.bindings.unbind(bearer, 'operator', never), true);
    assert.equal(await world.bindings.unbind(bearer, 'operator', never), false);
    await world.bindings.bind(other, csrOf(), '/run/keys', never);
  });

  it('does not make a key younger by binding it again', async () => {
    await using world = await issuingWorld({ keyMode: 'csr', keyMaxAgeMs: 10 * day });
    const key = generateKeyPair();
    const first = await world.bindings.bind(callerOf(world, 'web', 'pod-1'), csrOf(key), '/run/keys', never);
    world.clock.advance(6 * day);
    const again = await world.bindings.bind(callerOf(world, 'web', 'pod-1'), csrOf(key), '/run/keys/elsewhere', never);
    assert.equal(again.keyEnds, first.keyEnds);
    world.clock.advance(5 * day);
    assert.equal(
      (await failureOf(world.bindings.bind(callerOf(world, 'web', 'pod-1'), csrOf(key), '/run/keys', never))).code,
      'BINDING_CONFLICT',
    );
  });

  it('does not make a key younger by binding another one in between, nor after its binding was dropped', async () => {
    await using world = await issuingWorld({ keyMode: 'csr', keyMaxAgeMs: 10 * day });
    const [key, other] = [generateKeyPair(), generateKeyPair()];
    const bind = (pair: typeof key) => world.bindings.bind(callerOf(world, 'web', 'pod-1'), csrOf(pair), '/run/keys', never);
    const bound = await bind(key);
    await world.issuer.issue({ mode: 'csr', caller: callerOf(world, 'web', 'pod-1'), bound }, never);
    world.clock.advance(6 * day);
    await bind(other);
    assert.equal((await bind(key)).keyEnds, bound.keyEnds);
    world.clock.advance(5 * day);
    assert.equal(await world.bindings.pruneUnused(never), 1);
    assert.equal((await failureOf(bind(key))).code, 'BINDING_CONFLICT');
    assert.ok((await bind(other)).keyEnds > world.clock.now());
  });

  it('counts, and reaches the streams, also where the client went away before it heard so; unbinding likewise', async () => {
    await using world = await issuingWorld({ keyMode: 'csr' });
    const client = new AbortController();
    // The store has the write, and only its answer is slow.
    const slow = { ...world.store.bindings };
    slow.put = (binding) => {
      const done = world.store.bindings.put(binding);
      client.abort();
      return done;
    };
    const operator = new AbortController();
    slow.delete = (...of) => {
      const done = world.store.bindings.delete(...of);
      operator.abort();
      return done;
    };
    const { policy, recorder, gate, clock, log } = world;
    const bindings = createBindings({
      store: slow,
      issued: world.store.issued,
      policy,
      recorder,
      gate,
      namesFromCsr: () => false,
      clock,
      log,
    });
    const changed: string[] = [];
    bindings.onChange((bearer) => changed.push(bearer.instance));
    const caller = callerOf(world, 'web', 'pod-1');
    assert.equal((await failureOf(bindings.bind(caller, csrOf(), '/run/keys', client.signal))).code, 'CANCELLED');
    await eventually('the streams hear of the binding', () => (changed.length === 1 ? true : undefined));
    assert.equal(
      (await failureOf(bindings.unbind({ spiffeId: caller.spiffeId, instance: 'pod-1' }, 'operator', operator.signal))).code,
      'CANCELLED',
    );
    await eventually('the streams hear of its end', () => (changed.length === 2 ? true : undefined));
    assert.equal(await world.store.bindings.get(caller.spiffeId, 'pod-1'), undefined);
  });

  it('is limited in rate, per instance and per identity', async () => {
    const limits = { perInstance: { perSecond: 1, burst: 2 }, perIdentity: { perSecond: 1, burst: 3 } };
    await using world = await issuingWorld({ keyMode: 'csr', bindingsLimits: limits });
    const bind = (instance: string): Promise<unknown> => world.bindings.bind(callerOf(world, 'web', instance), csrOf(), '/run/keys', never);
    await bind('a');
    await bind('a');
    const limited = await failureOf(bind('a'));
    assert.equal(limited.code, 'RATE_LIMITED');
    assert.equal(limited.retryAfterMs, 1000);
    await bind('b');
    assert.equal((await failureOf(bind('c'))).code, 'RATE_LIMITED', "an instance's name may be the client's own word");
  });
});

describe('bindings that nobody uses', () => {
  it('are dropped after a while; one in use stays; one whose key is too old goes', async () => {
    await using world = await issuingWorld({ keyMode: 'csr', keyMaxAgeMs: 30 * day });
    const changed: string[] = [];
    world.bindings.onChange((bearer) => changed.push(bearer.instance));
    await world.bindings.bind(callerOf(world, 'web', 'unused'), csrOf(), '/run/keys', never);
    const used = await world.bindings.bind(callerOf(world, 'web', 'used'), csrOf(), '/run/keys', never);
    changed.length = 0;
    world.clock.advance(10 * day);
    await world.bindings.used(used, never);
    world.clock.advance(5 * day);
    assert.equal(await world.bindings.pruneUnused(never), 1);
    assert.deepEqual(changed, ['unused']);
    assert.deepEqual(
      (await world.bindings.list(10)).items.map((binding) => binding.instance),
      ['used'],
    );
    world.clock.advance(8 * day);
    const current = await world.bindings.get({ spiffeId: callerOf(world, 'web', 'used').spiffeId, instance: 'used' }, never);
    assert.ok(current);
    await world.bindings.used(current, never);
    world.clock.advance(8 * day);
    assert.equal(await world.bindings.pruneUnused(never), 1, 'past its greatest age');
    assert.ok((await auditOf(world)).some((line) => line.startsWith('key.drop-unused')));
  });

  it('are not those that wait for the renewal of a certificate of many weeks', async () => {
    await using world = await issuingWorld({ keyMode: 'csr', tierMs: 60 * day, keyMaxAgeMs: 200 * day });
    await world.bindings.bind(callerOf(world, 'web', 'in-use'), csrOf(), '/run/keys', never);
    world.clock.advance(30 * day);
    assert.equal(await world.bindings.pruneUnused(never), 0);
    world.clock.advance(31 * day);
    assert.equal(await world.bindings.pruneUnused(never), 1);
  });

  it('a note of use never undoes a newer binding', async () => {
    await using world = await issuingWorld({ keyMode: 'csr' });
    const caller = callerOf(world, 'web', 'pod-1');
    const old = await world.bindings.bind(caller, csrOf(), '/run/keys', never);
    world.clock.advance(2 * 3_600_000);
    const [fresh] = await Promise.all([world.bindings.bind(caller, csrOf(), '/run/keys', never), world.bindings.used(old, never)]);
    assert.equal((await world.bindings.get({ spiffeId: caller.spiffeId, instance: 'pod-1' }, never))?.spkiSha256, fresh.spkiSha256);
  });
});

describe('the rate of all together', () => {
  it('counts bound keys as well, and says when to come back', async () => {
    await using world = await issuingWorld({ keyMode: 'csr', gateLimits: { totalRate: { perSecond: 1, burst: 1 } } });
    const bind = (account: string) => {
      const caller = callerOf(world, account, 'pod-1');
      return world.bindings.bind(caller, createCsr(generateKeyPair(), [caller.spiffeId]), '/run/keys', never);
    };
    await bind('web');
    const limited = await failureOf(bind('api'));
    assert.equal(limited.code, 'RATE_LIMITED');
    assert.equal(limited.retryAfterMs, 1000);
    world.clock.advance(1000);
    await bind('api');
  });
});
