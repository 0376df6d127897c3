import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { failureReason } from '../../../src/identity/authentication-failure.ts';
import type { Credentials } from '../../../src/identity/authenticator.ts';
import { createTokenAuthenticator } from '../../../src/identity/token-authenticator.ts';
import { parseSpiffeId, parseTrustDomain } from '../../../src/spiffe/id.ts';
import { failureOf } from '../../support/failure.ts';
import { silentLog } from '../../support/silent-log.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';
import { ecKey, hmacToken, keySet, podClaims, rsaKey, signToken, unsignedToken } from '../../support/token-forge.ts';
import type { IssuerKey } from '../../support/token-forge.ts';
import { kubernetesIssuer, noHurry, tokenWorld, withToken } from '../../support/token-world.ts';
import type { TokenWorld } from '../../support/token-world.ts';

const reasonFor = async (world: TokenWorld, token: string | undefined, fields?: Partial<Credentials>) => {
  const error = await failureOf(() => world.authenticator.authenticate(withToken(token, fields), noHurry));
  assert.equal(error.code, 'UNAUTHENTICATED');
  assert.equal(error.message, 'authentication failed');
  return failureReason(error);
};

describe('a good token', () => {
  it('makes a caller: who, which instance, until when, by which key', async () => {
    const world = tokenWorld();
    const claims = podClaims(world.clock.now());
    const caller = await world.authenticator.authenticate(withToken(signToken(world.key, claims)), noHurry);
    assert.deepEqual(caller, {
      issuer: 'kubernetes',
      subject: 'system:serviceaccount:shop:web',
      spiffeId: 'spiffe://example.org/ns/shop/sa/web',
      instance: 'pod:11111111-2222-3333-4444-555555555555',
      authenticatedBy: 'token',
      credentialEnds: Number(claims['exp']) * 1000,
      tokenSeenAt: world.clock.now(),
      provedBy: `token kubernetes ${world.key.kid}`,
      pod: { namespace: 'shop', name: 'web-0', uid: '11111111-2222-3333-4444-555555555555' },
    });
    assert.equal(world.authenticator.stillProved(caller), true);
  });

  it('names no pod where its claims have none, or an odd one', async () => {
    const world = tokenWorld();
    const base = podClaims(world.clock.now());
    const kubernetes = { namespace: 'shop', serviceaccount: { name: 'web', uid: 'aaaa' } };
    const podFor = async (pod: unknown): Promise<unknown> => {
      const claims = { ...base, 'kubernetes.io': { ...kubernetes, ...(pod === undefined ? {} : { pod }) } };
      return (await world.authenticator.authenticate(withToken(signToken(world.key, claims)), noHurry)).pod;
    };
    assert.deepEqual(await podFor({ name: 'web-1', uid: 'u-1' }), { namespace: 'shop', name: 'web-1', uid: 'u-1' });
    for (const pod of [undefined, 'web-1', { uid: 'u-1' }, { name: '../web', uid: 'u-1' }, { name: 'WEB', uid: 'u-1' }])
      assert.equal(await podFor(pod), undefined, JSON.stringify(pod));
  });

  it('is seen anew at each use, though it was verified before', async () => {
    const world = tokenWorld();
    const token = signToken(world.key, podClaims(world.clock.now()));
    const first = await world.authenticator.authenticate(withToken(token), noHurry);
    world.clock.advance(60_000);
    const second = await world.authenticator.authenticate(withToken(token), noHurry);
    assert.equal(second.tokenSeenAt, first.tokenSeenAt + 60_000);
    assert.equal(second.credentialEnds, first.credentialEnds);
  });

  it('proves its caller until it ends, and not a millisecond longer, cached or not', async () => {
    for (const cacheEntries of [0, 100]) {
      const world = tokenWorld({ cacheEntries });
      const token = signToken(world.key, { ...podClaims(world.clock.now()), exp: Math.floor(world.clock.now() / 1000) + 60 });
      const caller = await world.authenticator.authenticate(withToken(token), noHurry);
      world.clock.set(caller.credentialEnds - 1);
      assert.equal(world.authenticator.stillProved(caller), true);
      await world.authenticator.authenticate(withToken(token), noHurry);
      world.clock.advance(1);
      assert.equal(world.authenticator.stillProved(caller), false);
      const error = await failureOf(() => world.authenticator.authenticate(withToken(token), noHurry));
      assert.equal(error.code, 'TOKEN_EXPIRED');
      assert.equal(error.message, `the token expired at ${new Date(caller.credentialEnds).toISOString()}`);
      assert.equal(failureReason(error), 'expired');
    }
  });

  it('may come from a clock that is a little ahead', async () => {
    const world = tokenWorld();
    const token = signToken(world.key, podClaims(world.clock.now() + 25_000));
    await world.authenticator.authenticate(withToken(token), noHurry);
  });

  it('needs no nbf, and may have one audience as a string', async () => {
    const world = tokenWorld();
    const claims = { ...podClaims(world.clock.now()), nbf: undefined, aud: 'signet' };
    await world.authenticator.authenticate(withToken(signToken(world.key, claims)), noHurry);
  });
});

describe('a bad token', () => {
  const world = tokenWorld({ key: rsaKey() });
  const now = world.clock.now();
  const seconds = Math.floor(now / 1000);
  const good = podClaims(now);
  const pod = good['kubernetes.io'] as Record<string, unknown>;
  const signed = (claims: Record<string, unknown>) => signToken(world.key, { ...good, ...claims });
  const named = (name: string) => signed({ 'kubernetes.io': { ...pod, serviceaccount: { name } } });
  const stranger = rsaKey(world.key.kid);
  const table: readonly (readonly [what: string, token: string | undefined, reason: string])[] = [
    ['none at all', undefined, 'no-credential'],
    ['an empty one', '', 'no-credential'],
    ['not a token', 'not a token', 'malformed'],
    ['truncated', signed({}).slice(0, -10), 'bad-signature'],
    ['truncated before the signature', signed({}).split('.').slice(0, 2).join('.'), 'malformed'],
    ['of 100 KB', 'a'.repeat(100_000), 'malformed'],
    ['signed by a stranger under our kid', signToken(stranger, good), 'bad-signature'],
    ['alg none', unsignedToken(world.key.kid, good), 'malformed'],
    ['HS256 with the public key', hmacToken(world.key.publicKey.export({ type: 'spki', format: 'pem' }), world.key.kid, good), 'malformed'],
    ['an algorithm that the issuer does not use', signToken(world.key, good, { alg: 'PS256' }), 'bad-signature'],
    ['a kid that nobody has', signToken(rsaKey(), good), 'unknown-key'],
    ['another issuer', signed({ iss: 'https://other.example' }), 'unknown-issuer'],
    ['the issuer with a slash more', signed({ iss: 'https://kubernetes.example/' }), 'unknown-issuer'],
    ['no issuer', signed({ iss: undefined }), 'unknown-issuer'],
    ['another audience', signed({ aud: ['vault'] }), 'wrong-audience'],
    ['no audience', signed({ aud: [] }), 'wrong-audience'],
    ['an audience of the issuer, but not of this API', signed({ aud: ['istio-ca'] }), 'wrong-audience'],
    ['a missing audience', signed({ aud: undefined }), 'claim'],
    ['an odd audience', signed({ aud: [{ signet: true }] }), 'claim'],
    ['not yet valid', signed({ nbf: seconds + 60 }), 'not-yet-valid'],
    ['issued in the future', signed({ iat: seconds + 60 }), 'not-yet-valid'],
    ['too long a life', signed({ exp: seconds + 86_401 }), 'too-long-lived'],
    ['a life that goes on for ever', signed({ exp: 1e300 }), 'claim'],
    ['no end', signed({ exp: undefined }), 'claim'],
    ['an end that is text', signed({ exp: String(seconds + 60) }), 'claim'],
    ['no beginning', signed({ iat: undefined }), 'claim'],
    ['no subject', signed({ sub: undefined }), 'claim'],
    ['a subject with a line break', signed({ sub: 'a\nb' }), 'claim'],
    ['a name with a slash', named('web/../../signet'), 'claim'],
    ['a name of two dots', named('..'), 'claim'],
    ['a name with a blank', named('we b'), 'claim'],
    ['a name with a homoglyph', named('w\u0435b'), 'claim'],
    ['a name with a percent sign', named('web%2Fadmin'), 'claim'],
    ['an empty name', named(''), 'claim'],
    ['claims of another shape', signed({ 'kubernetes.io': 'shop' }), 'claim'],
    ['an odd pod', signed({ 'kubernetes.io': { ...pod, pod: { uid: 'a b' } } }), 'claim'],
  ];
  for (const [what, token, reason] of table) {
    it(`${what}: ${reason}, and no word of it to the client`, async () => {
      assert.equal(await reasonFor(world, token), reason);
    });
  }

  it('is told that it expired only if it is genuine', async () => {
    const expired = { ...good, exp: seconds - 1, iat: seconds - 3600, nbf: seconds - 3600 };
    const error = await failureOf(() => world.authenticator.authenticate(withToken(signToken(world.key, expired)), noHurry));
    assert.equal(error.code, 'TOKEN_EXPIRED');
    assert.equal(await reasonFor(world, signToken(stranger, expired)), 'bad-signature');
    const long = signToken(world.key, { ...expired, exp: 0, iat: 0, nbf: 0 });
    assert.equal(
      (await failureOf(() => world.authenticator.authenticate(withToken(long), noHurry))).message,
      'the token expired at 1970-01-01T00:00:00.000Z',
    );
  });

  it('never shows itself in the error, whatever is wrong with it', async () => {
    const token = fc.constantFrom(...table.flatMap(([, text]) => (text !== undefined && text.length > 40 ? [text] : [])));
    await fc.assert(
      fc.asyncProperty(token, fc.nat(), async (text, at) => {
        const broken = text.slice(0, at % text.length) + '!' + text.slice(at % text.length);
        for (const shown of [text, broken]) {
          const error = await failureOf(() => world.authenticator.authenticate(withToken(shown), noHurry));
          const told = `${error.message} ${String(error.cause)} ${String(error.stack)} ${JSON.stringify(error)}`;
          for (const piece of shown.split('.')) if (piece.length > 20) assert.ok(!told.includes(piece.slice(0, 20)));
        }
      }),
      { numRuns: 100 },
    );
  });

  it('never authenticates after any mutation', async () => {
    const genuine = signToken(world.key, good);
    await fc.assert(
      fc.asyncProperty(fc.nat(genuine.length - 1), fc.constantFrom('A', 'B', '-', '.', '=', ''), async (at, letter) => {
        const mutated = genuine.slice(0, at) + letter + genuine.slice(at + 1);
        fc.pre(mutated !== genuine);
        assert.equal((await failureOf(() => world.authenticator.authenticate(withToken(mutated), noHurry))).code, 'UNAUTHENTICATED');
      }),
      { numRuns: 500 },
    );
  });
});

describe('audiences', () => {
  it('open one API each: a token cached for one is still refused by the other', async () => {
    const world = tokenWorld();
    const token = signToken(world.key, { ...podClaims(world.clock.now()), aud: ['istio-ca'] });
    const istio = { audiences: ['istio-ca', 'signet'] };
    await world.authenticator.authenticate(withToken(token, istio), noHurry);
    assert.equal(await reasonFor(world, token), 'wrong-audience');
    await world.authenticator.authenticate(withToken(token, istio), noHurry);
  });

  it("have to be the issuer's as well", async () => {
    const key = ecKey();
    const world = tokenWorld({ key, issuers: [kubernetesIssuer({ keys: { inline: keySet(key) }, audiences: ['mesh'] })] });
    const claims = podClaims(world.clock.now());
    assert.equal(await reasonFor(world, signToken(key, claims)), 'wrong-audience');
    await world.authenticator.authenticate(withToken(signToken(key, { ...claims, aud: ['mesh'] }), { audiences: ['mesh'] }), noHurry);
  });
});

describe('instances', () => {
  const key = ecKey();
  const world = tokenWorld({ key });
  const claims = podClaims(world.clock.now());

  it("of a token with a pod are the pod's, whatever the client says", async () => {
    const caller = await world.authenticator.authenticate(withToken(signToken(key, claims), { instanceHint: 'other' }), noHurry);
    assert.equal(caller.instance, 'pod:11111111-2222-3333-4444-555555555555');
  });

  it('of one without are what the client says, per call, under a name that no pod can have', async () => {
    const podless = signToken(key, { ...claims, 'kubernetes.io': { namespace: 'shop', serviceaccount: { name: 'web' } } });
    const withHint = (instanceHint: string | undefined) => world.authenticator.authenticate(withToken(podless, { instanceHint }), noHurry);
    assert.equal((await withHint('vm-1')).instance, 'hint:vm-1');
    assert.equal((await withHint('vm-2')).instance, 'hint:vm-2');
    assert.equal((await withHint(undefined)).instance, undefined);
    assert.equal((await failureOf(() => withHint('pod:1'))).code, 'INVALID_ARGUMENT');
  });
});

describe('what issuers may name', () => {
  const key = ecKey();
  const now = Date.now();
  const worldOf = (fields: object) => tokenWorld({ key, issuers: [kubernetesIssuer({ keys: { inline: keySet(key) }, ...fields })] });
  const tokenOf = (namespace: string, serviceAccount: string) => signToken(key, podClaims(now, { namespace, serviceAccount }));

  it('is what allow says without what deny says', async () => {
    const world = worldOf({ allow: ['/ns/shop/**', '/ns/*/sa/web'], deny: ['/ns/*/sa/admin'] });
    for (const [namespace, account] of [
      ['shop', 'api'],
      ['bank', 'web'],
    ] as const) {
      await world.authenticator.authenticate(withToken(tokenOf(namespace, account)), noHurry);
    }
    for (const [namespace, account] of [
      ['shop', 'admin'],
      ['bank', 'api'],
    ] as const) {
      assert.equal(await reasonFor(world, tokenOf(namespace, account)), 'not-allowed');
    }
    assert.equal(world.authenticator.allows('kubernetes', parseSpiffeId('spiffe://example.org/ns/shop/sa/api')), true);
    assert.equal(world.authenticator.allows('kubernetes', parseSpiffeId('spiffe://example.org/ns/bank/sa/api')), false);
    assert.equal(world.authenticator.allows('gone', parseSpiffeId('spiffe://example.org/ns/shop/sa/api')), false);
  });

  it('is never a name of the control plane', async () => {
    const world = worldOf({ path: '/{/kubernetes.io/namespace}/{/kubernetes.io/serviceaccount/name}' });
    await world.authenticator.authenticate(withToken(tokenOf('shop', 'signet')), noHurry);
    assert.equal(await reasonFor(world, tokenOf('signet', 'server')), 'not-allowed');
  });

  it('has to be configured without a mistake', () => {
    const make = () =>
      createTokenAuthenticator({
        issuers: [kubernetesIssuer({ allow: [] })],
        trustDomain: parseTrustDomain('example.org'),
        maxTokenLifetimeMs: 1,
        clock: simulatedClock(),
        log: silentLog,
      });
    assert.throws(make, { code: 'CONFIG_INVALID', message: /issuer "kubernetes", allow/ });
  });
});

describe('issuers that share an iss', () => {
  const [west, east] = [ecKey('west-key'), ecKey('east-key')];
  const cluster = (id: string, ...keys: readonly IssuerKey[]) =>
    kubernetesIssuer({
      id,
      keys: { inline: keySet(...keys) },
      path: `/${id}/ns/{/kubernetes.io/namespace}/sa/{/kubernetes.io/serviceaccount/name}`,
    });

  it('are told apart by whose key signed', async () => {
    const world = tokenWorld({ issuers: [cluster('west', west), cluster('east', east)] });
    const claims = podClaims(world.clock.now());
    const who = async (key: typeof west) => (await world.authenticator.authenticate(withToken(signToken(key, claims)), noHurry)).spiffeId;
    assert.equal(await who(west), 'spiffe://example.org/west/ns/shop/sa/web');
    assert.equal(await who(east), 'spiffe://example.org/east/ns/shop/sa/web');
  });

  it('are told apart by the signature where both have the kid', async () => {
    const twin = ecKey('west-key');
    const world = tokenWorld({ issuers: [cluster('west', west), cluster('east', twin)] });
    const caller = await world.authenticator.authenticate(withToken(signToken(twin, podClaims(world.clock.now()))), noHurry);
    assert.equal(caller.issuer, 'east');
  });

  it('are refused where both have the very key', async () => {
    const world = tokenWorld({ issuers: [cluster('west', west, east), cluster('east', east)] });
    assert.equal(await reasonFor(world, signToken(east, podClaims(world.clock.now()))), 'ambiguous-issuer');
  });
});

describe('the cache of verified tokens', () => {
  it('still believes what fell out of it', async () => {
    const world = tokenWorld({ cacheEntries: 2 });
    const tokens = ['a', 'b', 'c', 'd'].map((serviceAccount) => signToken(world.key, podClaims(world.clock.now(), { serviceAccount })));
    for (const token of [...tokens, ...tokens]) await world.authenticator.authenticate(withToken(token), noHurry);
  });

  it('never takes one token for another', async () => {
    const world = tokenWorld();
    for (const serviceAccount of ['a', 'b', 'a', 'b']) {
      const token = signToken(world.key, podClaims(world.clock.now(), { serviceAccount }));
      const caller = await world.authenticator.authenticate(withToken(token), noHurry);
      assert.equal(caller.spiffeId, `spiffe://example.org/ns/shop/sa/${serviceAccount}`);
    }
  });
});
