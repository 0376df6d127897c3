import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SignetError } from '../../../src/base/errors.ts';
import { createFreshCredential } from '../../../src/ca/remote/fresh-credential.ts';
import type { Credential } from '../../../src/ca/remote/fresh-credential.ts';
import { createJsonHttp } from '../../../src/ca/remote/json-http.ts';
import { loadOptionalPackage } from '../../../src/ca/remote/optional-package.ts';
import { createRemoteIssuers } from '../../../src/ca/remote/remote-issuers.ts';
import { createLeafIssuer } from '../../../src/x509/leaf.ts';
import { generateKeyPair } from '../../../src/x509/keys.ts';
import { parseTrustDomain, spiffeId } from '../../../src/spiffe/id.ts';
import { day, testCa } from '../../support/forge.ts';
import type { TestCa } from '../../support/forge.ts';
import { loopbackHttp } from '../../support/loopback-http.ts';
import { recordingLog } from '../../support/recording-log.ts';
import { silentLog } from '../../support/silent-log.ts';

const never = new AbortController().signal;
const away = new SignetError('AUTHORITY_UNAVAILABLE', 'away');
const random = (): number => 0.5;

describe('a credential kept fresh', () => {
  function world(lifeMs: number) {
    let now = Date.UTC(2026, 0, 1);
    let fetched = 0;
    let failing = false;
    const credential = createFreshCredential<string>({
      name: 'the credential',
      clock: { now: () => now },
      random,
      log: silentLog,
      fetch(): Promise<Credential<string>> {
        fetched++;
        return failing ? Promise.reject(away) : Promise.resolve({ value: `number ${String(fetched)}`, endsAt: now + lifeMs });
      },
    });
    return {
      credential,
      pass: (ms: number) => (now += ms),
      fail: (how: boolean) => (failing = how),
      fetched: () => fetched,
    };
  }

  it('is fetched once for all who ask, and again when it has ended', async () => {
    const { credential, pass, fetched } = world(60_000);
    assert.deepEqual(await Promise.all([credential.get(never), credential.get(never)]), ['number 1', 'number 1']);
    pass(59_000);
    assert.equal(await credential.get(never), 'number 1');
    pass(2000);
    assert.equal(await credential.get(never), 'number 2');
    assert.equal(fetched(), 2);
    credential.close();
  });

  it('is used until its end while its source is away', async () => {
    const { credential, pass, fail } = world(60_000);
    await credential.get(never);
    fail(true);
    pass(59_000);
    assert.equal(await credential.get(never), 'number 1');
    pass(2000);
    await assert.rejects(credential.get(never), { code: 'AUTHORITY_UNAVAILABLE' });
    fail(false);
    assert.match(await credential.get(never), /^number/);
    credential.close();
  });

  it('that is refused is replaced, but not with each refusal', async () => {
    const { credential, pass, fetched } = world(60_000);
    const first = await credential.get(never);
    credential.refused(first);
    const second = await credential.get(never);
    assert.notEqual(second, first);
    credential.refused(second);
    assert.equal(await credential.get(never), second);
    // A refusal of one that is gone already says nothing of this one.
    pass(11_000);
    credential.refused(first);
    assert.equal(await credential.get(never), second);
    credential.refused(second);
    assert.equal(await credential.get(never), 'number 3');
    assert.equal(fetched(), 3);
    credential.close();
  });
});

describe("the CA certificates of somebody else's CA", () => {
  async function leafOf({ ca }: TestCa): Promise<Buffer> {
    const { der } = await createLeafIssuer(ca).issue({
      spki: generateKeyPair().spki,
      spiffeId: spiffeId(parseTrustDomain('example.org'), ['web']),
      notBefore: Date.now() - 60_000,
      notAfter: Date.now() + 60_000,
    });
    return der;
  }
  const chainOf = ({ intermediate, root }: TestCa): Buffer[] => [intermediate, root];

  function issuers(read: () => readonly (readonly Buffer[])[], log = recordingLog()) {
    const options = { name: 'theirs', everyMs: 3_600_000, clock: { now: () => Date.now() }, random, log };
    return { log, watched: createRemoteIssuers({ ...options, read: () => Promise.resolve(read()) }) };
  }

  it('complete a leaf; a CA that is newer than the last look is looked up, and told before', async () => {
    const [old, next] = [await testCa('Old', Date.now()), await testCa('Next', Date.now())];
    let chains = [chainOf(old)];
    const { watched } = issuers(() => chains);
    await watched.start(never);
    assert.deepEqual((await watched.complete(await leafOf(old), never)).certificates.slice(1), [old.intermediate]);
    let told = 0;
    watched.onChange(() => told++);
    chains = [chainOf(old), chainOf(next)];
    assert.deepEqual((await watched.complete(await leafOf(next), never)).certificates.slice(1), [next.intermediate]);
    assert.equal(told, 1);
    assert.deepEqual(await watched.anchors(never), [old.root, next.root]);
    watched.close();
  });

  it('a leaf of a CA that is none of theirs, or what is no certificate, is not passed on', async () => {
    const [theirs, other] = [await testCa('Theirs', Date.now()), await testCa('Other', Date.now())];
    const { watched } = issuers(() => [chainOf(theirs)]);
    await watched.start(never);
    await assert.rejects(watched.complete(await leafOf(other), never), { code: 'AUTHORITY_MISBEHAVED' });
    await assert.rejects(watched.complete(Buffer.from('no certificate'), never), { code: 'AUTHORITY_MISBEHAVED' });
    watched.close();
  });

  it('a chain that has ended, has no root, or is not of one piece is left out with a warning', async () => {
    const [good, ended, other] = [
      await testCa('Good', Date.now()),
      await testCa('Ended', Date.now() - 4000 * day),
      await testCa('Other', Date.now()),
    ];
    const { watched, log } = issuers(() => [chainOf(ended), [good.intermediate], [good.intermediate, other.root], [], chainOf(good)]);
    await watched.start(never);
    assert.deepEqual(await watched.anchors(never), [good.root]);
    assert.equal(log.lines.filter(({ level }) => level === 'warn').length, 4);
    watched.close();
  });

  it('none that can be used is a mistake in the configuration, told at the start', async () => {
    const { watched } = issuers(() => []);
    await assert.rejects(watched.start(never), { code: 'AUTHORITY_MISCONFIGURED' });
    assert.equal(watched.endsAt(), Infinity);
    watched.close();
  });
});

describe('JSON from a service elsewhere', () => {
  it('is read if it is JSON, and never longer than it may be; no redirect is followed', async () => {
    await using server = await loopbackHttp(({ url }) => {
      if (url.pathname === '/long') return Promise.resolve({ status: 200, body: 'x'.repeat(5000) });
      return Promise.resolve({
        status: url.pathname === '/away' ? 302 : 200,
        headers: { location: '/long' },
        body: { path: url.pathname },
      });
    });
    const http = createJsonHttp({ service: 'the service', limit: 1000 });
    const get = (path: string, signal = never) => http.send({ method: 'GET', url: new URL(path, server.url), headers: {} }, signal);
    assert.deepEqual((await get('/short')).body, { path: '/short' });
    assert.equal((await get('/away')).status, 302);
    await assert.rejects(get('/long'), { code: 'AUTHORITY_UNAVAILABLE' });
    await assert.rejects(get('/short', AbortSignal.abort()), { code: 'CANCELLED' });
    await http.close();
  });

  it('that does not come in time is a service that is away', async () => {
    await using server = await loopbackHttp(async () => {
      await sleep(1000);
      return { status: 200, body: {} };
    });
    const http = createJsonHttp({ service: 'the service', timeoutMs: 50 });
    const call = http.send({ method: 'GET', url: new URL(server.url), headers: {} }, never);
    await assert.rejects(call, { code: 'AUTHORITY_UNAVAILABLE', message: /the service/ });
    await http.close();
  });
});

it('a library that is not installed is named, with what to type', async () => {
  const name: string = 'not-installed-anywhere';
  const load = (): Promise<unknown> => import(name);
  await assert.rejects(loadOptionalPackage('CA backend aws', ['@aws/x', '@aws/y'], load), {
    code: 'AUTHORITY_MISCONFIGURED',
    message: /CA backend aws needs .* npm install @aws\/x @aws\/y/,
  });
});
