import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, it } from 'node:test';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { eventually } from '../support/eventually.ts';
import type { Refusal } from '../support/grpc-caller.ts';
import { identityIn } from '../support/received-identity.ts';
import { replaceFile } from '../support/temp.ts';
import { ecKey, hmacToken, keySet, rsaKey, signToken, unsignedToken } from '../support/token-forge.ts';
import { endOf, idOf, madeWeb, web, wholeServer } from '../support/whole-server.ts';
import type { WholeServer } from '../support/whole-server.ts';

let whole: WholeServer;
before(async () => {
  whole = await wholeServer();
});
after(() => whole[Symbol.asyncDispose]());

const csr = createCsr(generateKeyPair(), []);
const csrPem = pemEncode('CERTIFICATE REQUEST', csr);

/** How each door refuses these metadata. */
async function refusals(metadata: Readonly<Record<string, string>>): Promise<Readonly<Record<string, Refusal>>> {
  const client = whole.doors.sds();
  const ends = (api: 'sotw' | 'delta'): Promise<Refusal> => {
    const stream = client.stream(api, metadata);
    stream.send(api === 'sotw' ? { resource_names: ['ROOTCA'] } : { resource_names_subscribe: ['ROOTCA'] });
    return endOf(stream);
  };
  const fetch = '/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets';
  const [StreamSecrets, DeltaSecrets, FetchSecrets, SignCertificate, BindKey, CreateCertificate] = await Promise.all([
    ends('sotw'),
    ends('delta'),
    whole.doors.unary(fetch, Buffer.from([0x1a, 6, ...Buffer.from('ROOTCA')]), metadata),
    whole.doors.workload.refused('SignCertificate', { csr }, metadata),
    whole.doors.workload.refused('BindKey', { csr, key_directory: '/tmp' }, metadata),
    whole.doors.istio.refused('CreateCertificate', { csr: csrPem }, metadata),
  ]);
  client.close();
  assert.ok(!Buffer.isBuffer(FetchSecrets), 'FetchSecrets is no more open than the rest');
  return { StreamSecrets, DeltaSecrets, FetchSecrets, SignCertificate, BindKey, CreateCertificate };
}

const opaque = { code: 16, details: 'authentication failed', reason: 'UNAUTHENTICATED', domain: 'signet.dev' };

function told({ code, details, reason, domain }: Refusal): object {
  return { code, details, reason, domain };
}

describe('a bad token', () => {
  const seconds = Math.floor(Date.now() / 1000);
  const pod = { name: 'web-0', uid: 'u' };
  const named = (name: unknown, namespace: unknown = 'shop'): Readonly<Record<string, unknown>> => ({
    'kubernetes.io': { namespace, serviceaccount: { name }, pod },
  });
  const claims = { iss: 'https://kubernetes.example', sub: 'x', aud: ['signet'], exp: seconds + 3600, iat: seconds, ...named('web') };
  const tokens: readonly (readonly [what: string, token: () => string])[] = [
    ['not yet valid', () => whole.folder.token(web, { nbf: seconds + 3600 })],
    ['of too long a life', () => whole.folder.token(web, { exp: seconds + 2 * 86_400 })],
    ['of the wrong audience', () => whole.folder.token(web, { aud: ['vault'] })],
    ['of no audience', () => whole.folder.token(web, { aud: [] })],
    ['of the wrong issuer', () => whole.folder.token(web, { iss: 'https://kubernetes.example.evil' })],
    ['of an unknown kid', () => whole.folder.token(web, {}, ecKey())],
    ['by a stranger under a known kid', () => whole.folder.token(web, {}, ecKey(whole.folder.issuerKey.kid))],
    ['by a stranger, expired', () => whole.folder.token(web, { exp: seconds - 60, iat: seconds - 120 }, ecKey(whole.folder.issuerKey.kid))],
    ['with alg none', () => unsignedToken(whole.folder.issuerKey.kid, claims)],
    ['with alg None', () => unsignedToken(whole.folder.issuerKey.kid, claims, 'None')],
    [
      'by HS256 with the public key as PEM',
      () => hmacToken(whole.folder.issuerKey.publicKey.export({ type: 'spki', format: 'pem' }), whole.folder.issuerKey.kid, claims),
    ],
    [
      'by HS256 with the public key as DER',
      () => hmacToken(whole.folder.issuerKey.publicKey.export({ type: 'spki', format: 'der' }), whole.folder.issuerKey.kid, claims),
    ],
    ['by HS256 with an empty key', () => hmacToken('', whole.folder.issuerKey.kid, claims)],
    ['with a key of its own in the header', () => signToken(ecKey(whole.folder.issuerKey.kid), claims, { header: { jwk: ecKey().jwk } })],
    ['of an algorithm that the issuer has not', () => signToken(rsaKey(whole.folder.issuerKey.kid), claims)],
    ['truncated', () => whole.folder.token(web).slice(0, -8)],
    ['without its signature', () => `${whole.folder.token(web).split('.').slice(0, 2).join('.')}.`],
    ['without its last part', () => whole.folder.token(web).split('.').slice(0, 2).join('.')],
    ['with a slash in a claim', () => whole.folder.token(web, named('web/../admin'))],
    ['with a slash in the namespace', () => whole.folder.token(web, named('web', 'shop/sa/admin'))],
    ['with dots for a name', () => whole.folder.token(web, named('..'))],
    ['with a NUL in a claim', () => whole.folder.token(web, named('web\0'))],
    ['with a line feed in a claim', () => whole.folder.token(web, named('web\n'))],
    ['with letters that look like others', () => whole.folder.token(web, named('w\u0435b'))],
    ['with a number for a name', () => whole.folder.token(web, named(7))],
    ['with a list for a name', () => whole.folder.token(web, named(['web']))],
    ['with no name', () => whole.folder.token(web, named(undefined))],
    ['of the whole world', () => 'a'.repeat(20_000)],
    ['that is none', () => 'bearer'],
  ];
  for (const [what, token] of tokens) {
    it(`${what}: every door says the same, and nothing else`, async () => {
      for (const [door, refusal] of Object.entries(await refusals({ authorization: `Bearer ${token()}` }))) {
        assert.deepEqual({ door, ...told(refusal) }, { door, ...opaque });
      }
    });
  }

  it('that has expired is told when, at every door', async () => {
    const expired = whole.folder.bearer(web, { exp: seconds - 5, iat: seconds - 600, nbf: seconds - 600 });
    for (const [door, { code, reason, details, domain }] of Object.entries(await refusals(expired))) {
      assert.deepEqual({ door, code, reason, domain }, { door, code: 16, reason: 'TOKEN_EXPIRED', domain: 'signet.dev' });
      assert.equal(details, `the token expired at ${new Date((seconds - 5) * 1000).toISOString()}`);
    }
  });

  it('is no better than none, nor is another scheme', async () => {
    for (const metadata of [
      {},
      { authorization: 'Basic dXNlcjpwYXNz' },
      { authorization: `Bearer Bearer ${whole.folder.token(web)}` },
      { 'x-token': whole.folder.token(web) },
    ]) {
      for (const [door, refusal] of Object.entries(await refusals(metadata)))
        assert.deepEqual({ door, ...told(refusal) }, { door, ...opaque });
    }
  });
});

it("a token for Istio's CA alone opens Istio's service, and no other door", async () => {
  const bearer = whole.folder.bearer(web, { aud: ['istio-ca'] });
  const chain = (await whole.doors.istio.call('CreateCertificate', { csr: csrPem }, bearer)) as { readonly cert_chain: readonly string[] };
  assert.equal(chain.cert_chain.length, 3);
  // Now it is in the cache, and still no good elsewhere.
  assert.deepEqual(told(await whole.doors.workload.refused('SignCertificate', { csr }, bearer)), opaque);
  assert.deepEqual(told(await whole.doors.workload.refused('BindKey', { csr, key_directory: '/tmp' }, bearer)), opaque);
  for (const api of ['sotw', 'delta'] as const) assert.deepEqual(told(await endOf(whole.doors.sds().stream(api, bearer))), opaque);
  await whole.doors.istio.call('CreateCertificate', { csr: csrPem }, bearer);
});

describe('keys of the issuer', () => {
  it('taken out end the streams that they opened, and those alone; a broken file takes nothing away', async () => {
    const { issuerKey, jwksFile } = whole.folder;
    const kept = rsaKey();
    await replaceFile(jwksFile, JSON.stringify(keySet(issuerKey, kept)));
    const old = whole.folder.bearer(madeWeb);
    const lasting = { authorization: `Bearer ${whole.folder.token(madeWeb, {}, kept)}` };
    await eventually('the second key is known', () => whole.doors.workload.call('SignCertificate', { csr }, lasting).then(() => true));
    const [ending, going] = [old, lasting].map((bearer) => whole.doors.sds().stream('sotw', bearer));
    assert.ok(ending && going);
    for (const stream of [ending, going]) {
      stream.send({ resource_names: ['default'] });
      identityIn(await stream.next());
    }
    await whole.doors.workload.call('SignCertificate', { csr }, old);

    const fresh = ecKey();
    await replaceFile(jwksFile, JSON.stringify(keySet(kept, fresh)));
    const { code, reason } = await endOf(ending);
    assert.deepEqual({ code, reason }, { code: 16, reason: 'UNAUTHENTICATED' });
    for (const [door, refusal] of Object.entries(await refusals(old))) assert.deepEqual({ door, ...told(refusal) }, { door, ...opaque });
    await whole.doors.workload.call('SignCertificate', { csr }, { authorization: `Bearer ${whole.folder.token(web, {}, fresh)}` });
    await whole.doors.admin.call('RenewCertificate', { spiffe_id: idOf(madeWeb) });
    identityIn(await going.next());

    // A file that breaks takes nothing away.
    await replaceFile(jwksFile, '{"keys": [');
    await sleep(3000);
    assert.ok(!going.isEnded);
    await whole.doors.workload.call('SignCertificate', { csr }, lasting);
    await replaceFile(jwksFile, JSON.stringify(keySet(issuerKey)));
    await eventually('the old key is known again', () =>
      whole.doors.workload.call('SignCertificate', { csr }, whole.folder.bearer(web)).then(() => true),
    );
    assert.equal((await endOf(going)).reason, 'UNAUTHENTICATED');
  });
});

describe('a token of ten seconds', () => {
  it('has its stream ended with OK in the last 15 % of its life, and a fresh one goes on where it was', async () => {
    const inTenSeconds = (): number => Math.floor(Date.now() / 1000) + 10;
    const exp = inTenSeconds();
    const openedAt = Date.now();
    const ends = exp * 1000;
    const stream = whole.doors.sds().stream('sotw', whole.folder.bearer(madeWeb, { exp }));
    stream.send({ resource_names: ['default'] });
    const before = identityIn(await stream.next());
    assert.equal((await endOf(stream)).code, 0);
    const endedAt = Date.now();
    assert.ok(endedAt >= openedAt + (ends - openedAt) * 0.85, `ended after ${String(endedAt - openedAt)} of ${String(ends - openedAt)} ms`);
    const next = whole.doors.sds().stream('sotw', whole.folder.bearer(madeWeb, { exp: inTenSeconds() }));
    next.send({ resource_names: ['default'] });
    const after = identityIn(await next.next());
    assert.equal(after.leaf.serial, before.leaf.serial, 'the same certificate: one for the instance, not for the stream');
    assert.equal(after.key, before.key);
    next.cancel();
  });
});
