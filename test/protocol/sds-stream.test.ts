import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, it } from 'node:test';
import { status } from '@grpc/grpc-js';
import { eventually } from '../support/eventually.ts';
import { idOf, sdsWorld } from '../support/sds-world.ts';
import type { SdsWorld, SdsWorldOptions } from '../support/sds-world.ts';
import { publishedAnchors, publishedIdentity } from '../support/secret-material.ts';

/** What holds for a stream of either form: who may have it, how long, and how it ends. */

async function inWorld(options: SdsWorldOptions, story: (world: SdsWorld) => Promise<void>): Promise<void> {
  const world = await sdsWorld(options);
  try {
    world.identity('web').publish(await publishedIdentity(idOf('web')));
    await story(world);
  } finally {
    await world.close();
  }
}

const apis = ['sotw', 'delta'] as const;
const ask = (...names: readonly string[]) => ({ resource_names: names, resource_names_subscribe: names });

describe('who may have a stream', () => {
  it('refuses a credential that has ended, whoever it proved, and whether or not that took a while', async () => {
    for (const authenticate of [undefined, () => sleep(5)]) {
      await inWorld({ credentialMs: -1, ...(authenticate ? { authenticate } : {}) }, async (world) => {
        for (const api of apis) {
          const stream = world.open(api);
          stream.send(ask('ROOTCA'));
          const { code, details } = await stream.ended;
          assert.deepEqual([code, details], [status.UNAUTHENTICATED, 'the credential has ended']);
        }
      });
    }
  });

  it('refuses a bad credential with an opaque message and a stable code', () =>
    inWorld({}, async (world) => {
      for (const api of apis) {
        const stream = world.open(api, 'NOT A TOKEN');
        stream.send(ask('ROOTCA'));
        const { code, details, metadata } = await stream.ended;
        assert.equal(code, status.UNAUTHENTICATED);
        assert.equal(details, 'no valid credential');
        assert.match(String(metadata.get('grpc-status-details-bin')[0]), /google\.rpc\.ErrorInfo[^]*UNAUTHENTICATED/);
      }
      assert.equal(world.lookups, 0, 'nothing was looked up for them');
    }));

  it('gives up on an authentication that hangs, and says that it may be tried again', () =>
    inWorld({ limits: { authenticateTimeoutMs: 100 }, authenticate: () => new Promise(() => undefined) }, async (world) => {
      const stream = world.open('delta');
      stream.send(ask('ROOTCA'));
      assert.equal((await stream.ended).code, status.UNAVAILABLE);
    }));

  it('ends the streams of a caller that may not go on, and no others', () =>
    inWorld({}, async (world) => {
      const [bad, worse, good] = [world.open('sotw', 'bad'), world.open('sotw', 'worse'), world.open('sotw', 'good')];
      for (const stream of [bad, worse, good]) {
        stream.send(ask('ROOTCA'));
        await stream.next();
      }
      // The second change comes before the streams have been judged for the first.
      world.refuse('bad');
      world.refuse('worse');
      assert.equal((await bad.ended).code, status.PERMISSION_DENIED);
      assert.equal((await worse.ended).code, status.PERMISSION_DENIED);
      world.bundle.publish(publishedAnchors(2, 2));
      assert.equal((await good.next()).version, '2.2');
    }));

  it('judges again who was still being asked about when that changed', { timeout: 10_000 }, () => {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    return inWorld({ authenticate: () => promise }, async (world) => {
      const stream = world.open('sotw', 'bad');
      await eventually('the caller is asked about', () => world.service.streamCount === 1 || undefined);
      world.refuse('bad');
      // The streams that were there have been judged by then.
      for (let turn = 0; turn < 3; turn++) await new Promise((done) => setImmediate(done));
      assert.equal(stream.isEnded, false);
      resolve(undefined);
      assert.equal((await stream.ended).code, status.PERMISSION_DENIED);
    });
  });

  it('asks again before it sends a certificate, whatever it was told before', () =>
    inWorld({}, async (world) => {
      for (const api of apis) {
        const workload = `web${api}`;
        const stream = world.open(api, workload);
        stream.send(ask('ROOTCA', 'default'));
        await stream.next();
        world.refuse(workload, true);
        world.identity(workload).publish(await publishedIdentity(idOf(workload)));
        assert.equal((await stream.ended).code, status.PERMISSION_DENIED);
        await stream.quiet(1);
      }
    }));

  it('lets the operator end the streams of an identity', () =>
    inWorld({}, async (world) => {
      const [one, other] = [world.open('sotw', 'one'), world.open('delta', 'other')];
      for (const stream of [one, other]) {
        stream.send(ask('ROOTCA'));
        await stream.next();
      }
      assert.equal(
        world.service.endStreams((caller) => caller.subject === 'one'),
        1,
      );
      assert.equal((await one.ended).code, status.OK);
      assert.equal(other.isEnded, false);
    }));
});

describe('how a stream ends', () => {
  it('ends by a half-close with OK', () =>
    inWorld({}, async (world) => {
      for (const api of apis) {
        const stream = world.open(api);
        stream.send(ask('ROOTCA'));
        await stream.next();
        stream.halfClose();
        assert.equal((await stream.ended).code, status.OK);
      }
      await eventually('all are gone', () => world.service.streamCount === 0 || undefined);
      assert.equal(world.ledger.streamCount, 0);
    }));

  it('ends with OK before its credential does', () =>
    inWorld({ credentialMs: 1_500 }, async (world) => {
      const start = Date.now();
      const stream = world.open('delta');
      stream.send(ask('ROOTCA'));
      await stream.next();
      assert.equal((await stream.ended).code, status.OK);
      assert.ok(Date.now() - start >= 1_200, 'not before its last 15 %');
    }));

  it('ends with OK at its greatest age', () =>
    inWorld({ limits: { maxStreamAgeMs: 300 } }, async (world) => {
      const stream = world.open('sotw');
      stream.send(ask('ROOTCA'));
      await stream.next();
      assert.equal((await stream.ended).code, status.OK);
    }));

  it('drains with OK and takes no new ones', () =>
    inWorld({}, async (world) => {
      const streams = apis.map((api) => world.open(api));
      for (const stream of streams) {
        stream.send(ask('ROOTCA'));
        await stream.next();
      }
      await world.service.drain(AbortSignal.timeout(10_000));
      for (const stream of streams) assert.equal((await stream.ended).code, status.OK);
      const late = world.open('sotw');
      late.send(ask('ROOTCA'));
      assert.equal((await late.ended).code, status.UNAVAILABLE);
    }));

  it('serves one type alone, also when another is asked for later; an empty one is implicit', () =>
    inWorld({}, async (world) => {
      const other = 'type.googleapis.com/envoy.config.cluster.v3.Cluster';
      for (const api of apis) {
        const wrong = world.open(api);
        wrong.send({ ...ask('ROOTCA'), type_url: other });
        assert.equal((await wrong.ended).code, status.INVALID_ARGUMENT);
        const stream = world.open(api);
        stream.send({ ...ask('ROOTCA'), type_url: '' });
        assert.match((await stream.next()).typeUrl, /Secret$/);
        stream.send({ ...ask('ROOTCA'), type_url: other });
        assert.equal((await stream.ended).code, status.INVALID_ARGUMENT);
      }
    }));

  it('answers what it cannot decode, and what is too large, with a definite code, and disturbs no other stream', () =>
    inWorld({}, async (world) => {
      const other = world.open('sotw');
      other.send(ask('ROOTCA'));
      await other.next();
      for (const api of apis) {
        for (const bytes of ['ffffffff', '0a', '0affffffff0f', '1a05616263'].map((hex) => Buffer.from(hex, 'hex'))) {
          const stream = world.open(api);
          stream.sendBytes(bytes);
          assert.equal((await stream.ended).code, status.INVALID_ARGUMENT);
        }
        const large = world.open(api);
        large.sendBytes(Buffer.alloc((1 << 20) + 1));
        assert.equal((await large.ended).code, status.RESOURCE_EXHAUSTED);
      }
      world.bundle.publish(publishedAnchors(2, 2));
      assert.equal((await other.next()).version, '2.2');
      for (const line of world.log.lines) assert.notEqual(line.level, 'error', line.message);
    }));
});

describe('what is sent and what is kept of an answer', () => {
  it('names a key on the host by its file and sends no key', () =>
    inWorld({}, async (world) => {
      const published = await publishedIdentity(idOf('csr'), '/etc/signet/keys');
      world.identity('csr').publish(published);
      const stream = world.open('sotw', 'csr');
      stream.send(ask('default'));
      const { secrets, bytes, version, nonce } = await stream.next();
      assert.match(secrets[0]?.tls_certificate?.private_key.filename ?? '', /^\/etc\/signet\/keys\/[0-9a-f]{64}\.key$/);
      assert.ok(!bytes.includes('PRIVATE KEY'));
      stream.send({
        ...ask('default'),
        response_nonce: nonce,
        error_detail: { code: 13, message: 'Invalid path: /etc/signet/keys/x.key' },
      });
      const state = () => world.ledger.streams().flatMap((open) => open.secrets.map((secret) => secret.state));
      await eventually('the key is pending', () => state().includes('pending-key') || undefined);
      assert.deepEqual([version, state()], [published.version, ['pending-key']]);
    }));

  it('keeps nothing of a private key that a NACK quotes', () =>
    inWorld({}, async (world) => {
      const stream = world.open('sotw');
      stream.send({ ...ask('default'), node: { id: 'line\nbreak\x1b[31m' } });
      const { secrets, nonce } = await stream.next();
      const key = String(secrets[0]?.tls_certificate?.private_key.inline_bytes);
      stream.send({
        ...ask('default'),
        response_nonce: nonce,
        error_detail: {
          code: 13,
          message: `Proto constraint validation failed: private_key { inline_bytes: "${key.replaceAll('\n', '\\n')}" }`,
        },
      });
      await eventually(
        'it is refused',
        () => world.ledger.streams().some(({ secrets: [secret] }) => secret?.state === 'rejected') || undefined,
      );
      const kept = JSON.stringify([world.log.lines, world.ledger.streams()]);
      for (const line of key.split('\n').slice(1, -2))
        for (let at = 0; at + 12 <= line.length; at++) assert.ok(!kept.includes(line.slice(at, at + 12)));
      assert.match(kept, /constraint/);
      assert.match(kept, /line\?break\?\[31m/);
    }));
});

describe('floods', () => {
  const odd = [
    '',
    '*',
    '.',
    '/',
    '../../etc/passwd',
    'nul\0',
    'new\nline',
    '\u202e',
    'x'.repeat(5_000),
    'default\0',
    ' default',
    'DEFAULT',
  ];

  for (const api of apis) {
    it(`takes 20,000 names at once, of any form, and yields no secret for them (${api})`, () =>
      inWorld({}, async (world) => {
        const stream = world.open(api);
        const names = [...odd, ...Array.from({ length: 20_000 }, (_, i) => `name-${String(i)}`)];
        stream.send(ask(...names));
        const answer = await stream.next();
        assert.deepEqual(answer.secrets, []);
        assert.equal(answer.removed.length, api === 'delta' ? names.length : 0);
        stream.cancel();
        const after = world.open(api);
        after.send(ask('ROOTCA'));
        assert.equal((await after.next()).secrets.length, 1);
      }));

    it(`ends a stream that goes on asking (${api})`, () =>
      inWorld({ limits: { requestBurst: 100, requestsPerSecond: 10 } }, async (world) => {
        const stream = world.open(api);
        for (let i = 0; i < 400 && !stream.isEnded; i++) {
          stream.send(ask(`name-${String(i)}`));
          if (i % 50 === 0) await sleep(1);
        }
        assert.equal((await stream.ended).code, status.RESOURCE_EXHAUSTED);
        assert.ok(world.lookups <= 150, `${String(world.lookups)} names were looked up`);
      }));

    it(`holds only so many names on a stream (${api})`, () =>
      inWorld({ limits: { maxNamesPerStream: 2 } }, async (world) => {
        const stream = world.open(api);
        stream.send(ask('ROOTCA', 'spiffe://td.test', 'default'));
        assert.equal((await stream.ended).code, status.RESOURCE_EXHAUSTED);
      }));
  }

  it('opens only so many streams for an identity, and gives their places back', () =>
    inWorld({ limits: { maxStreamsPerIdentity: 3, streamsPerSecondPerIdentity: 1_000 } }, async (world) => {
      const streams = [1, 2, 3].map(() => world.open('sotw'));
      for (const stream of streams) {
        stream.send(ask('ROOTCA'));
        await stream.next();
      }
      const fourth = world.open('sotw');
      fourth.send(ask('ROOTCA'));
      assert.equal((await fourth.ended).code, status.RESOURCE_EXHAUSTED);
      const other = world.open('sotw', 'other');
      other.send(ask('ROOTCA'));
      await other.next();
      for (const stream of streams) stream.cancel();
      await eventually('a place is free', async () => {
        const again = world.open('sotw');
        again.send(ask('ROOTCA'));
        return again.next();
      });
    }));

  it('opens them only so fast', () =>
    inWorld({ limits: { maxStreamsPerIdentity: 20, streamsPerSecondPerIdentity: 1 } }, async (world) => {
      const codes: number[] = [];
      for (let i = 0; i < 30; i++) {
        const stream = world.open('sotw');
        stream.send(ask('ROOTCA'));
        await stream.next().catch(() => undefined);
        stream.halfClose();
        codes.push((await stream.ended).code);
      }
      assert.ok(codes.filter((code) => code === 0).length >= 20);
      assert.ok(codes.includes(status.RESOURCE_EXHAUSTED));
    }));

  it('keeps one response at most for a client that does not read, and then sends it the latest', () =>
    inWorld({}, async (world) => {
      const stream = world.open('sotw');
      stream.send(ask('ROOTCA'));
      await stream.next();
      stream.pause();
      const pushes = 400;
      for (let i = 2; i <= pushes; i++) {
        world.bundle.publish(publishedAnchors(i, 1 + (i % 3)));
        await sleep(1);
      }
      stream.resume();
      let count = 0;
      for (let last = ''; last !== `${String(pushes)}.${String(1 + (pushes % 3))}`; count++) last = (await stream.next()).version;
      assert.ok(count < pushes - 1, `it was sent all ${String(count)}`);
    }));
});

describe('FetchSecrets', () => {
  const web = { authorization: 'Bearer web' };

  it('gives what there is, whatever the version, and leaves out what is unknown', () =>
    inWorld({}, async (world) => {
      const all = await world.client.fetch({ resource_names: ['default', 'ROOTCA', 'nobody', idOf('other')], version_info: '1.1' }, web);
      assert.deepEqual(all.secrets.map(({ name }) => name).toSorted(), ['ROOTCA', 'default']);
      const one = await world.client.fetch({ resource_names: ['ROOTCA'], version_info: '1.1' }, web);
      assert.deepEqual([one.version, one.secrets.length], ['1.1', 1]);
      const none = await world.client.fetch({ resource_names: [] }, web);
      assert.deepEqual(none.secrets, []);
    }));

  it('waits for what is being made, but not for ever', () =>
    inWorld({ limits: { fetchTimeoutMs: 300 } }, async (world) => {
      world.identity('web').publish('pending');
      await assert.rejects(world.client.fetch({ resource_names: ['default'] }, web), { code: status.UNAVAILABLE });
      const waiting = world.client.fetch({ resource_names: ['default'] }, web);
      await eventually('it watches', () => world.identity('web').subscribers === 1 || undefined, 10_000, 1);
      world.identity('web').publish(await publishedIdentity(idOf('web')));
      assert.equal((await waiting).secrets.length, 1);
      assert.equal(world.identity('web').subscribers, 0);
    }));

  it('is for callers that may have it', () =>
    inWorld({}, async (world) => {
      await assert.rejects(world.client.fetch({ resource_names: ['ROOTCA'] }), { code: status.UNAUTHENTICATED });
      await assert.rejects(world.client.fetch({ type_url: 'other' }, web), { code: status.INVALID_ARGUMENT });
      world.refuse('web', true);
      await assert.rejects(world.client.fetch({ resource_names: ['default'] }, web), { code: status.PERMISSION_DENIED });
    }));
});
