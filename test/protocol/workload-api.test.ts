import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, it } from 'node:test';
import * as grpc from '@grpc/grpc-js';
import { SignetError } from '../../src/base/errors.ts';
import type { X509State } from '../../src/workload-api/workload-source.ts';
import { eventually } from '../support/eventually.ts';
import { infoOf } from '../support/grpc-caller.ts';
import { rawWorkloadClient, securityHeader } from '../support/raw-workload-client.ts';
import type { RawWorkloadClient } from '../support/raw-workload-client.ts';
import { startWorkloadApi, testTrustDomain } from '../support/workload-world.ts';
import type { WorkloadOptions, WorkloadWorld } from '../support/workload-world.ts';

const { status } = grpc;
const stateStreams = ['FetchX509SVID', 'FetchX509Bundles', 'FetchJWTBundles'];
const td = 'spiffe://test.example';
const web = `${td}/ns/shop/sa/web`;

async function inWorld(options: WorkloadOptions, story: (world: WorkloadWorld, client: RawWorkloadClient) => Promise<void>): Promise<void> {
  await using world = await startWorkloadApi(options);
  using client = rawWorkloadClient(world.socket);
  await story(world, client);
}

async function refusalOf(work: Promise<unknown>): Promise<grpc.ServiceError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof Error && 'code' in error) return error as grpc.ServiceError;
    throw error;
  }
  throw new assert.AssertionError({ message: 'it was not refused' });
}

interface Svid {
  readonly spiffe_id: string;
  readonly x509_svid: Buffer;
  readonly x509_svid_key: Buffer;
  readonly bundle: Buffer;
  readonly hint: string;
}

interface Answer {
  readonly svids: readonly Svid[];
  readonly crl: readonly Buffer[];
  readonly federated_bundles: Readonly<Record<string, Buffer>>;
}

const answerOf = (message: Record<string, unknown>): Answer => message as unknown as Answer;
const stateOf = (world: WorkloadWorld): X509State => {
  const state = world.source.x509();
  assert.ok(typeof state === 'object');
  return state;
};

describe('every method of the Workload API', () => {
  it('wants the security header, which no forged request has', () =>
    inWorld({}, async (_world, client) => {
      const headers = [new grpc.Metadata(), securityHeader(), securityHeader()];
      headers[1]?.set('workload.spiffe.io', 'TRUE');
      headers[2]?.add('workload.spiffe.io', 'false');
      for (const metadata of headers) {
        for (const method of stateStreams) {
          const { code, details, metadata: trailers } = await refusalOf(client.stream(method, metadata).next());
          assert.equal(code, status.INVALID_ARGUMENT, method);
          assert.match(details, /workload\.spiffe\.io: true/);
          assert.equal(infoOf(trailers).reason, 'INVALID_ARGUMENT');
        }
        for (const [method, audience] of [
          ['FetchJWTSVID', ['a']],
          ['ValidateJWTSVID', 'a'],
        ] as const) {
          const { code, details } = await refusalOf(client.call(method, { audience, svid: 'b' }, metadata));
          assert.equal(code, status.INVALID_ARGUMENT, method);
          assert.match(details, /security header/);
        }
      }
    }));

  it('says UNAVAILABLE while the identity is being made, and PERMISSION_DENIED where there is none', () =>
    inWorld({ empty: true }, async (world, client) => {
      for (const method of stateStreams) assert.equal((await refusalOf(client.stream(method).next())).code, status.UNAVAILABLE, method);
      assert.equal((await refusalOf(client.call('FetchJWTSVID', { audience: ['a'] }))).code, status.UNAVAILABLE);
      assert.equal((await refusalOf(client.call('ValidateJWTSVID', { audience: 'a', svid: 'b' }))).code, status.UNAVAILABLE);
      world.source.setX509('denied');
      world.source.setJwtBundles('denied');
      world.source.fetch = () => Promise.resolve([]);
      for (const method of stateStreams)
        assert.equal((await refusalOf(client.stream(method).next())).code, status.PERMISSION_DENIED, method);
      assert.equal((await refusalOf(client.call('FetchJWTSVID', { audience: ['a'] }))).code, status.PERMISSION_DENIED);
      assert.equal((await refusalOf(client.call('ValidateJWTSVID', { audience: 'a', svid: 'b' }))).code, status.PERMISSION_DENIED);
    }));

  it('is UNIMPLEMENTED where the profile is not stable yet', () =>
    inWorld({}, async (_world, client) => {
      for (const method of ['FetchWITSVID', 'FetchWITBundles'])
        assert.equal((await refusalOf(client.stream(method).next())).code, status.UNIMPLEMENTED, method);
    }));
});

describe('FetchX509SVID', () => {
  it('gives each identity with its chain, its key and its bundle, and the federated bundles beside', async () => {
    const partner = await testTrustDomain('partner.example');
    const identities = { '/ns/shop/sa/web': 'internal', '/ns/shop/sa/web-public': 'external' };
    await inWorld({ federated: [partner], identities }, async (world, client) => {
      const { svids, crl, federated_bundles } = answerOf(await client.stream('FetchX509SVID').next());
      assert.deepEqual(
        svids.map(({ spiffe_id, hint }) => [spiffe_id, hint]),
        [
          [web, 'internal'],
          [`${web}-public`, 'external'],
        ],
      );
      for (const [i, svid] of svids.entries()) {
        // DER, one after the other, leaf first.
        assert.deepEqual(svid.x509_svid, Buffer.concat(stateOf(world).svids[i]?.chain ?? []));
        const leaf = new X509Certificate(svid.x509_svid);
        assert.equal(leaf.subjectAltName, `URI:${svid.spiffe_id}`);
        const key = createPrivateKey({ key: svid.x509_svid_key, format: 'der', type: 'pkcs8' });
        assert.ok(createPublicKey(key).equals(leaf.publicKey));
        assert.deepEqual(svid.bundle, world.trustDomain.authority.root);
      }
      assert.deepEqual(crl, []);
      assert.deepEqual(federated_bundles, { [partner.name]: partner.authority.root });
    });
  });

  it('sends the whole state again on each change, so that what is left out is withdrawn', async () => {
    const partner = await testTrustDomain('partner.example');
    await inWorld({ federated: [partner] }, async (world, client) => {
      const stream = client.stream('FetchX509SVID');
      const before = answerOf(await stream.next());
      const state = await world.rotate();
      const after = answerOf(await stream.next());
      assert.notDeepEqual(after.svids[0]?.x509_svid_key, before.svids[0]?.x509_svid_key);
      assert.deepEqual(Object.keys(after.federated_bundles), [partner.name]);
      const crls = [Buffer.from('300100', 'hex'), Buffer.from('300200', 'hex')];
      const root = world.trustDomain.authority.root;
      world.source.setX509({ ...state, bundles: new Map([[td, [root, partner.authority.root]]]), crls });
      const last = answerOf(await stream.next());
      assert.deepEqual(last.federated_bundles, {});
      assert.deepEqual(last.crl, crls);
      assert.deepEqual(last.svids[0]?.bundle, Buffer.concat([root, partner.authority.root]));
    });
  });

  it('keeps a stream through a moment without material, and ends it when the identity is taken away', () =>
    inWorld({}, async (world, client) => {
      const stream = client.stream('FetchX509SVID');
      await stream.next();
      world.source.setX509('pending');
      await world.rotate();
      await stream.next();
      world.source.setX509('denied');
      assert.equal((await refusalOf(stream.next())).code, status.PERMISSION_DENIED);
      await eventually('the listener to be gone', () => (world.source.listeners === 0 ? true : undefined));
    }));

  it('gives out no identity without the bundle of its trust domain, and says so in the log', () =>
    inWorld({}, async (world, client) => {
      const stream = client.stream('FetchX509SVID');
      await stream.next();
      const state = stateOf(world);
      world.source.setX509({ ...state, bundles: new Map() });
      assert.equal((await refusalOf(client.stream('FetchX509SVID').next())).code, status.UNAVAILABLE);
      assert.ok(world.log.lines.some(({ level, message }) => level === 'error' && message.includes('can not be encoded')));
      await world.rotate();
      await stream.next();
    }));
});

describe('the bundle streams', () => {
  it('have every trust domain, and stay quiet when only the identity changes', async () => {
    const partner = await testTrustDomain('partner.example');
    await inWorld({ federated: [partner] }, async (world, client) => {
      const x509 = client.stream('FetchX509Bundles');
      const jwt = client.stream('FetchJWTBundles');
      const both = [td, partner.name].toSorted();
      const first = (await x509.next()) as { bundles: Record<string, Buffer>; crl: Buffer[] };
      assert.deepEqual(Object.keys(first.bundles).toSorted(), both);
      assert.deepEqual(first.bundles[td], world.trustDomain.authority.root);
      const keys = (await jwt.next()) as { bundles: Record<string, Buffer> };
      assert.deepEqual(Object.keys(keys.bundles).toSorted(), both);
      assert.equal(keys.bundles[td]?.toString(), world.trustDomain.jwks);

      const state = await world.rotate();
      world.source.setX509({ ...state, crls: [Buffer.from('3000', 'hex')] });
      // The next message is the one with the list, none before it.
      assert.deepEqual(((await x509.next()) as { crl: Buffer[] }).crl, [Buffer.from('3000', 'hex')]);
      world.source.setJwtBundles(new Map([[td, '{"keys":[]}']]));
      assert.deepEqual((await jwt.next()).bundles, { [td]: Buffer.from('{"keys":[]}') });
    });
  });
});

describe('streams', () => {
  it('are limited in number, and a place is free again when one ends', () =>
    inWorld({ limits: { maxStreams: 3 } }, async (world, client) => {
      const streams = [1, 2, 3].map(() => client.stream('FetchX509SVID'));
      for (const stream of streams) await stream.next();
      assert.equal((await refusalOf(client.stream('FetchX509Bundles').next())).code, status.RESOURCE_EXHAUSTED);
      assert.equal(world.source.listeners, 1);
      streams[0]?.cancel();
      await eventually('the place', () => (world.service.streamCount === 2 ? true : undefined));
      await client.stream('FetchX509Bundles').next();
    }));

  it('hold one message at most for a client that does not read, and then give it the latest', () =>
    inWorld({ limits: { maxStreams: 3 } }, async (world, client) => {
      const stream = client.stream('FetchX509Bundles');
      await stream.next();
      stream.pause();
      const state = stateOf(world);
      const pushes = 400;
      // Larger than the window of HTTP/2, so that each of them fills it.
      const crl = (i: number): Buffer => Buffer.concat([Buffer.from(`${String(i)};`), Buffer.alloc(70_000)]);
      for (let i = 1; i <= pushes; i++) {
        world.source.setX509({ ...state, crls: [crl(i)] });
        await sleep(1);
      }
      stream.resume();
      let count = 0;
      for (let last = ''; last !== String(pushes); count++) {
        const [got] = ((await stream.next()) as { crl: Buffer[] }).crl;
        last = got?.subarray(0, got.indexOf(';')).toString() ?? '';
      }
      assert.ok(count < pushes / 2, `it was sent ${String(count)} of ${String(pushes)}`);
    }));

  it('end with UNAVAILABLE when the agent stops, so that clients come back', () =>
    inWorld({}, async (world, client) => {
      const streams = stateStreams.map((method) => client.stream(method));
      for (const stream of streams) await stream.next();
      await world.service.drain(AbortSignal.timeout(5000));
      assert.equal(world.service.streamCount, 0);
      for (const stream of streams) assert.equal((await refusalOf(stream.next())).code, status.UNAVAILABLE);
      assert.equal((await refusalOf(client.stream('FetchX509SVID').next())).code, status.UNAVAILABLE);
    }));
});

interface JwtAnswer {
  readonly svids: readonly { readonly spiffe_id: string; readonly svid: string; readonly hint: string }[];
}

describe('FetchJWTSVID', () => {
  const identities = { '/ns/shop/sa/web': 'internal', '/ns/shop/sa/web-public': 'external' };

  it('gives a token for each identity, or for the one asked for', () =>
    inWorld({ identities }, async (_world, client) => {
      const all = (await client.call('FetchJWTSVID', { audience: ['db', 'cache'] })) as JwtAnswer;
      assert.deepEqual(
        all.svids.map(({ spiffe_id, hint }) => [spiffe_id, hint]),
        [
          [web, 'internal'],
          [`${web}-public`, 'external'],
        ],
      );
      const one = (await client.call('FetchJWTSVID', { audience: ['db'], spiffe_id: `${web}-public` })) as JwtAnswer;
      assert.deepEqual(
        one.svids.map(({ spiffe_id }) => spiffe_id),
        [`${web}-public`],
      );
    }));

  it('refuses what is no request for a token', () =>
    inWorld({ limits: { maxAudiences: 2, maxAudienceLength: 10 } }, async (_world, client) => {
      for (const request of [
        {},
        { audience: [] },
        { audience: [''] },
        { audience: ['a', 'b', 'c'] },
        { audience: ['a'.repeat(11)] },
        { audience: ['a'], spiffe_id: 'web' },
      ]) {
        assert.equal((await refusalOf(client.call('FetchJWTSVID', request))).code, status.INVALID_ARGUMENT, JSON.stringify(request));
      }
      const other = await refusalOf(client.call('FetchJWTSVID', { audience: ['a'], spiffe_id: `${td}/ns/shop/sa/db` }));
      assert.equal(other.code, status.PERMISSION_DENIED);
    }));

  it('is given up with its client, and after its time', () =>
    inWorld({ limits: { callTimeoutMs: 100 } }, async (world, client) => {
      let seen: AbortSignal | undefined;
      world.source.fetch = (_request, signal) => {
        seen = signal;
        return new Promise(() => undefined);
      };
      assert.equal((await refusalOf(client.call('FetchJWTSVID', { audience: ['a'] }))).code, status.DEADLINE_EXCEEDED);
      assert.equal(seen?.aborted, true);
    }));

  it('is limited in how many are under way', () =>
    inWorld({ limits: { maxCalls: 1 } }, async (world, client) => {
      const started = Promise.withResolvers<undefined>();
      const finish = Promise.withResolvers<undefined>();
      world.source.fetch = async () => {
        started.resolve(undefined);
        await finish.promise;
        return [{ spiffeId: web, token: 'a.b.c', hint: '', expiresAt: 0 }];
      };
      const first = client.call('FetchJWTSVID', { audience: ['a'] });
      await started.promise;
      assert.equal((await refusalOf(client.call('FetchJWTSVID', { audience: ['a'] }))).code, status.RESOURCE_EXHAUSTED);
      finish.resolve(undefined);
      assert.equal(((await first) as JwtAnswer).svids.length, 1);
      assert.equal(((await client.call('FetchJWTSVID', { audience: ['a'] })) as JwtAnswer).svids.length, 1);
    }));

  it('shows a client nothing of an error that was not made for it', () =>
    inWorld({}, async (world, client) => {
      world.source.fetch = () => Promise.reject(new Error('secret path /etc/x'));
      const internal = await refusalOf(client.call('FetchJWTSVID', { audience: ['a'] }));
      assert.equal(internal.code, status.INTERNAL);
      assert.equal(internal.details, 'internal error');
      world.source.fetch = () => Promise.reject(new SignetError('RATE_LIMITED', 'slowly', { retryAfterMs: 1500 }));
      assert.equal((await refusalOf(client.call('FetchJWTSVID', { audience: ['a'] }))).code, status.RESOURCE_EXHAUSTED);
    }));
});

describe('ValidateJWTSVID', () => {
  const seconds = (): number => Math.floor(Date.now() / 1000);
  const good = { sub: web, aud: ['db', 'cache'] };

  it('gives the SPIFFE ID and the claims of a good token', () =>
    inWorld({}, async (world, client) => {
      const claims = { ...good, exp: seconds() + 60, iat: seconds(), role: { name: 'reader', levels: [1, 2.5] } };
      const svid = await world.trustDomain.token(claims);
      const valid = (await client.call('ValidateJWTSVID', { audience: 'cache', svid })) as {
        spiffe_id: string;
        claims: { fields: Record<string, { numberValue?: number; structValue?: { fields: Record<string, unknown> } }> };
      };
      assert.equal(valid.spiffe_id, web);
      assert.deepEqual(Object.keys(valid.claims.fields).toSorted(), ['aud', 'exp', 'iat', 'role', 'sub']);
      assert.equal(valid.claims.fields['exp']?.numberValue, claims.exp);
      assert.deepEqual(Object.keys(valid.claims.fields['role']?.structValue?.fields ?? {}), ['name', 'levels']);
      // Just expired, or not valid just yet, by the clock of another machine.
      for (const times of [{ exp: seconds() - 3 }, { exp: seconds() + 60, nbf: seconds() + 3 }])
        await client.call('ValidateJWTSVID', { audience: 'db', svid: await world.trustDomain.token({ ...good, ...times }) });
    }));

  it('takes the tokens of a federated trust domain by the keys of that one alone', async () => {
    const partner = await testTrustDomain('partner.example');
    await inWorld({ federated: [partner] }, async (world, client) => {
      const claims = { aud: 'db', exp: seconds() + 60 };
      const svid = await partner.token({ ...claims, sub: 'spiffe://partner.example/app' });
      const valid = (await client.call('ValidateJWTSVID', { audience: 'db', svid })) as { spiffe_id: string };
      assert.equal(valid.spiffe_id, 'spiffe://partner.example/app');
      // Signed by the partner in our name, with its own key or under the name of ours.
      for (const kid of [partner.jwtKey.keyId, world.trustDomain.jwtKey.keyId]) {
        const forged = await partner.token({ ...claims, sub: web }, { kid });
        assert.equal((await refusalOf(client.call('ValidateJWTSVID', { audience: 'db', svid: forged }))).code, status.INVALID_ARGUMENT);
      }
    });
  });

  it('refuses everything else, saying what is wrong and nothing of what is in it', () =>
    inWorld({}, async (world, client) => {
      const { token } = world.trustDomain;
      const exp = seconds() + 60;
      const signed = await token({ ...good, exp });
      const [head = '', body = '', signature = ''] = signed.split('.');
      const unsigned = `${Buffer.from('{"alg":"none","kid":"test.example-1"}').toString('base64url')}.${body}.`;
      const stranger = await testTrustDomain('stranger.example');
      const cases: readonly (readonly [string, string, RegExp])[] = [
        ['another audience', await token({ ...good, aud: 'web', exp }), /"aud"/],
        ['no audience', await token({ sub: web, exp }), /"aud"/],
        ['expired', await token({ ...good, exp: seconds() - 60 }), /expired/],
        ['no end', await token(good), /"exp"/],
        ['not valid yet', await token({ ...good, exp, nbf: seconds() + 60 }), /"nbf"/],
        ['no subject', await token({ aud: 'db', exp }), /subject/],
        ['a subject that is no SPIFFE ID', await token({ ...good, sub: 'web', exp }), /subject/],
        ['a trust domain as subject', await token({ ...good, sub: td, exp }), /subject/],
        ['an unknown trust domain', await stranger.token({ ...good, sub: 'spiffe://stranger.example/a', exp }), /trust domain/],
        ['an unknown key', await token({ ...good, exp }, { kid: 'other' }), /no such key/],
        ['another type', await token({ ...good, exp }, { typ: 'at+jwt' }), /type/],
        ['a changed signature', `${head}.${body}.${signature.startsWith('A') ? 'B' : 'A'}${signature.slice(1)}`, /signature/],
        ['none', unsigned, /algorithm/],
        ['not a JWT', 'a.b', /not a JWT/],
        ['nothing', '', /empty/],
        ['too long', `${'a'.repeat(17_000)}.b.c`, /longer/],
      ];
      for (const [name, svid, why] of cases) {
        const { code, details } = await refusalOf(client.call('ValidateJWTSVID', { audience: 'db', svid }));
        assert.equal(code, status.INVALID_ARGUMENT, name);
        assert.match(details, why, name);
        assert.ok(!details.includes('stranger') && !details.includes('eyJ'), name);
      }
      assert.equal((await refusalOf(client.call('ValidateJWTSVID', { audience: '', svid: signed }))).code, status.INVALID_ARGUMENT);
      assert.ok(!JSON.stringify(world.log.lines).includes(body));
      await client.call('ValidateJWTSVID', { audience: 'db', svid: signed });
    }));

  it('forgets a key that is taken out of the bundle, and knows one that is added', () =>
    inWorld({}, async (world, client) => {
      const next = await testTrustDomain('test.example');
      const claims = { ...good, exp: seconds() + 60 };
      const svid = await next.token(claims, { kid: 'second' });
      const request = { audience: 'db', svid };
      assert.equal((await refusalOf(client.call('ValidateJWTSVID', request))).code, status.INVALID_ARGUMENT);
      const keys = [world.trustDomain.jwtKey.jwk, { ...next.jwtKey.jwk, kid: 'second' }];
      world.source.setJwtBundles(new Map([[td, JSON.stringify({ keys })]]));
      await client.call('ValidateJWTSVID', request);
      // A key for another use is none.
      world.source.setJwtBundles(new Map([[td, JSON.stringify({ keys: [{ ...next.jwtKey.jwk, kid: 'second', use: 'x509-svid' }] })]]));
      assert.equal((await refusalOf(client.call('ValidateJWTSVID', request))).code, status.INVALID_ARGUMENT);
    }));
});
