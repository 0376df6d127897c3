import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { SignetError } from '../../../src/base/errors.ts';
import { failureReason } from '../../../src/identity/authentication-failure.ts';
import type { KeyIssuerSettings } from '../../../src/identity/issuer-settings.ts';
import type { KeySourceLimits } from '../../../src/identity/key-source.ts';
import { eventually } from '../../support/eventually.ts';
import { failureOf } from '../../support/failure.ts';
import { json, keyServer } from '../../support/key-server.ts';
import type { KeyServer } from '../../support/key-server.ts';
import { replaceFile, tempFolder } from '../../support/temp.ts';
import { ecKey, keySet, podClaims, signToken } from '../../support/token-forge.ts';
import type { IssuerKey } from '../../support/token-forge.ts';
import { kubernetesIssuer, noHurry, tokenWorld, withToken } from '../../support/token-world.ts';
import type { TokenWorld } from '../../support/token-world.ts';

const floorMs = 10_000;
const limits: KeySourceLimits = { timeoutMs: 5000, floorMs, refreshEveryMs: 3_600_000, retry: { baseMs: 3_600_000, maxMs: 3_600_000 } };
const wellKnown = '/.well-known/openid-configuration';

function worldOf(fields: Partial<KeyIssuerSettings>, keySourceLimits = limits): TokenWorld {
  return tokenWorld({ issuers: [kubernetesIssuer(fields)], keySourceLimits });
}

/** The reason for a refusal, the code of any other failure, or `ok`. */
async function outcome(world: TokenWorld, key: IssuerKey): Promise<string> {
  const token = signToken(key, podClaims(world.clock.now()));
  try {
    await world.authenticator.authenticate(withToken(token), noHurry);
    return 'ok';
  } catch (error) {
    const failure = await failureOf(Promise.reject(SignetError.from(error)));
    return failureReason(failure) ?? failure.code;
  }
}

const asked = (server: KeyServer, path: string) => server.requests.filter((request) => request.path === path).length;

describe('keys from a URL', () => {
  it('are fetched at the first token, and once for all of them', async () => {
    await using server = await keyServer();
    const key = ecKey();
    server.answers.set('/keys', json(keySet(key)));
    const world = worldOf({ keys: { jwks: `${server.url}/keys` } });
    assert.deepEqual(
      await Promise.all(Array.from({ length: 20 }, () => outcome(world, key))),
      Array.from({ length: 20 }, () => 'ok'),
    );
    assert.equal(asked(server, '/keys'), 1);
  });

  it('are fetched again for an unknown kid, but a flood of them is one request per floor', async () => {
    await using server = await keyServer();
    const [first, second] = [ecKey(), ecKey()];
    server.answers.set('/keys', json(keySet(first)));
    const world = worldOf({ keys: { jwks: `${server.url}/keys` } });
    assert.equal(await outcome(world, first), 'ok');
    for (let i = 0; i < 10; i++) assert.equal(await outcome(world, ecKey()), 'unknown-key');
    assert.equal(asked(server, '/keys'), 1);

    server.answers.set('/keys', json(keySet(first, second)));
    assert.equal(await outcome(world, second), 'unknown-key');
    world.clock.advance(floorMs);
    assert.deepEqual([await outcome(world, second), await outcome(world, first)], ['ok', 'ok']);
    assert.equal(asked(server, '/keys'), 2);
    world.clock.advance(floorMs);
    for (let i = 0; i < 10; i++) assert.equal(await outcome(world, ecKey()), 'unknown-key');
    assert.equal(asked(server, '/keys'), 3);
  });

  it('are asked for again after a clock went back', async () => {
    await using server = await keyServer();
    const key = ecKey();
    server.answers.set('/keys', json(keySet()));
    const world = worldOf({ keys: { jwks: `${server.url}/keys` } });
    assert.equal(await outcome(world, key), 'unknown-key');
    server.answers.set('/keys', json(keySet(key)));
    world.clock.advance(-3_600_000);
    assert.equal(await outcome(world, key), 'ok');
  });

  it('that were taken out end what they proved, cached or open, and say so to listeners', async () => {
    await using server = await keyServer();
    const [old, fresh] = [ecKey(), ecKey()];
    server.answers.set('/keys', json(keySet(old)));
    const world = worldOf({ keys: { jwks: `${server.url}/keys` } });
    const token = withToken(signToken(old, podClaims(world.clock.now())));
    const caller = await world.authenticator.authenticate(token, noHurry);
    const heard: boolean[] = [];
    const stop = world.authenticator.onChange(() => heard.push(world.authenticator.stillProved(caller)));
    world.authenticator.onChange(() => {
      throw new Error('a listener with a fault');
    });
    const alsoHeard: boolean[] = [];
    world.authenticator.onChange(() => alsoHeard.push(true));

    server.answers.set('/keys', json(keySet(old, fresh)));
    world.clock.advance(floorMs);
    assert.equal(await outcome(world, fresh), 'ok');
    assert.deepEqual(heard, [true]);

    server.answers.set('/keys', json(keySet(fresh)));
    world.clock.advance(floorMs);
    assert.equal(await outcome(world, ecKey()), 'unknown-key');
    assert.deepEqual(
      [heard, alsoHeard],
      [
        [true, false],
        [true, true],
      ],
    );
    assert.equal(failureReason(await failureOf(() => world.authenticator.authenticate(token, noHurry))), 'unknown-key');
    stop();
    server.answers.set('/keys', json(keySet()));
    world.clock.advance(floorMs);
    assert.equal(await outcome(world, ecKey()), 'unknown-key');
    assert.equal(heard.length, 2);
    assert.equal(await outcome(world, fresh), 'unknown-key');
  });

  it('stay in use while their source is away; only an unknown kid is then a fault of ours', async () => {
    await using server = await keyServer();
    const key = ecKey();
    server.answers.set('/keys', json(keySet(key)));
    const world = worldOf({ keys: { jwks: `${server.url}/keys` } });
    assert.equal(await outcome(world, key), 'ok');
    for (const bad of [503, 404, 500]) {
      server.answers.set('/keys', (_request, response) => response.writeHead(bad).end('{"keys":[]}'));
      world.clock.advance(floorMs);
      assert.equal(await outcome(world, ecKey()), 'IDENTITY_SOURCE_UNAVAILABLE');
      assert.equal(await outcome(world, key), 'ok');
    }
    const [status] = world.authenticator.keySources();
    assert.equal(status?.keys, 1);
    assert.notEqual(status.failingSince, undefined);
    server.answers.set('/keys', json(keySet(key)));
    world.clock.advance(floorMs);
    assert.equal(await outcome(world, ecKey()), 'unknown-key');
    assert.equal(world.authenticator.keySources()[0]?.failingSince, undefined);
  });

  it('that were never to be had are a fault of ours, and are had as soon as they can be', async () => {
    const server = await keyServer();
    const url = `${server.url}/keys`;
    await server[Symbol.asyncDispose]();
    const key = ecKey();
    const world = worldOf({ keys: { jwks: url } });
    const failure = await failureOf(() =>
      world.authenticator.authenticate(withToken(signToken(key, podClaims(world.clock.now()))), noHurry),
    );
    assert.equal(failure.code, 'IDENTITY_SOURCE_UNAVAILABLE');
    assert.ok(world.log.lines.some(({ level, message }) => level === 'warn' && message.includes('can not be read')));
  });

  it('are fetched by start, which does not fail when they are away, and again and again until close', async () => {
    await using server = await keyServer();
    const key = ecKey();
    const world = worldOf({ keys: { jwks: `${server.url}/keys` } }, { ...limits, refreshEveryMs: 20, retry: { baseMs: 5, maxMs: 20 } });
    await world.authenticator.start(noHurry);
    assert.equal(world.authenticator.keySources()[0]?.keys, 0);
    server.answers.set('/keys', json(keySet(key)));
    await eventually('the keys are there', () => world.authenticator.keySources()[0]?.keys === 1 || undefined);
    assert.equal(await outcome(world, key), 'ok');
    server.answers.set('/keys', json(keySet(ecKey(), key)));
    await eventually('the new keys are there', () => world.authenticator.keySources()[0]?.keys === 2 || undefined);
    world.authenticator.close();
    const before = server.requests.length;
    server.answers.set('/keys', json(keySet()));
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.ok(server.requests.length - before <= 1);
    assert.equal(world.authenticator.keySources()[0]?.keys, 2);
  });
});

describe('a read of keys that the end of the process cuts short', () => {
  it('is no fault of their source: nobody is warned', async () => {
    await using server = await keyServer();
    server.answers.set('/keys', () => undefined);
    const world = worldOf({ keys: { jwks: `${server.url}/keys` } });
    const ending = new AbortController();
    const starting = world.authenticator.start(ending.signal).catch(() => undefined);
    await eventually('the keys are asked for', () => asked(server, '/keys') === 1 || undefined);
    ending.abort(new SignetError('CANCELLED', 'the server is stopping'));
    await starting;
    // The attempt itself ends a few turns of the loop after whoever waited for it.
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.deepEqual(world.log.lines, []);
    assert.equal(world.authenticator.keySources()[0]?.failingSince, undefined);
  });
});

describe('a source of keys that misbehaves', () => {
  const bodies: readonly (readonly [what: string, answer: Parameters<KeyServer['answers']['set']>[1]])[] = [
    ['redirects', (_request, response) => response.writeHead(302, { location: '/moved' }).end()],
    ['redirects for ever', (_request, response) => response.writeHead(308, { location: '/keys' }).end()],
    ['answers with a page', (_request, response) => response.writeHead(200).end('<html>sign in</html>')],
    ['answers with nothing', (_request, response) => response.writeHead(204).end()],
    ['answers with another document', json({ issuer: 'x' })],
    ['answers with too much', json({ ...keySet(), pad: 'x'.repeat(300_000) })],
    ['promises too much', (_request, response) => void response.writeHead(200, { 'content-length': '999999999' }).write('{')],
    [
      'never ends',
      (_request, response) => {
        const timer = setInterval(() => response.write('x'.repeat(60_000)), 1);
        response.on('close', () => {
          clearInterval(timer);
        });
      },
    ],
    ['hangs up', (_request, response) => void response.socket?.destroy()],
    [
      'hangs up halfway',
      (_request, response) => void response.writeHead(200, { 'content-length': '100' }).write('{', () => response.socket?.destroy()),
    ],
  ];
  for (const [what, answer] of bodies) {
    it(`and ${what} gives no keys`, async () => {
      await using server = await keyServer();
      const key = ecKey();
      server.answers.set('/keys', answer);
      server.answers.set('/moved', json(keySet(key)));
      const world = worldOf({ keys: { jwks: `${server.url}/keys` } });
      assert.equal(await outcome(world, key), 'IDENTITY_SOURCE_UNAVAILABLE');
      assert.equal(asked(server, '/moved'), 0);
      server.answers.set('/keys', json(keySet(key)));
      world.clock.advance(floorMs);
      assert.equal(await outcome(world, key), 'ok');
    });
  }

  for (const [what, answer] of [
    ['says nothing', () => undefined],
    [
      'drips',
      (_request, response) => {
        response.writeHead(200);
        const timer = setInterval(() => response.write(' '), 20);
        response.on('close', () => {
          clearInterval(timer);
        });
      },
    ],
  ] satisfies [string, Parameters<KeyServer['answers']['set']>[1]][]) {
    it(`and ${what} meets the deadline; the caller waits no longer than its own`, async () => {
      await using server = await keyServer();
      server.answers.set('/keys', answer);
      const world = worldOf({ keys: { jwks: `${server.url}/keys` } }, { ...limits, timeoutMs: 300 });
      const key = ecKey();
      const token = withToken(signToken(key, podClaims(world.clock.now())));
      assert.equal(
        (await failureOf(() => world.authenticator.authenticate(token, AbortSignal.abort(new DOMException('gone', 'AbortError'))))).code,
        'CANCELLED',
      );
      assert.equal((await failureOf(() => world.authenticator.authenticate(token, AbortSignal.timeout(30)))).code, 'DEADLINE_EXCEEDED');
      assert.equal(await outcome(world, key), 'IDENTITY_SOURCE_UNAVAILABLE');
      assert.equal(asked(server, '/keys'), 1);
    });
  }
});

describe('keys by OpenID Connect discovery', () => {
  it('come from where the document of the issuer says', async () => {
    await using server = await keyServer();
    const key = ecKey();
    server.answers.set('/k8s/openid/v1/jwks', json(keySet(key)));
    server.answers.set(`/k8s${wellKnown}`, json({ issuer: 'https://kubernetes.example', jwks_uri: `${server.url}/k8s/openid/v1/jwks` }));
    for (const discovery of [`${server.url}/k8s`, `${server.url}/k8s/`, `${server.url}/k8s${wellKnown}`]) {
      assert.equal(await outcome(worldOf({ keys: { discovery } }), key), 'ok', discovery);
    }
  });

  it('are refused from a document of another issuer, or that points to another scheme', async () => {
    await using server = await keyServer();
    const key = ecKey();
    const issuer = 'https://kubernetes.example';
    server.answers.set('/keys', json(keySet(key)));
    for (const document of [
      { issuer: 'https://kubernetes.example/', jwks_uri: `${server.url}/keys` },
      { issuer: 'https://evil.example', jwks_uri: `${server.url}/keys` },
      { jwks_uri: `${server.url}/keys` },
      { issuer },
      { issuer, jwks_uri: 'http://keys.example/keys' },
      { issuer, jwks_uri: 'file:///etc/passwd' },
      { issuer, jwks_uri: '/keys' },
      { issuer, jwks_uri: 7 },
      [],
    ]) {
      server.answers.set(wellKnown, json(document));
      assert.equal(
        await outcome(worldOf({ keys: { discovery: server.url } }), key),
        'IDENTITY_SOURCE_UNAVAILABLE',
        JSON.stringify(document),
      );
    }
    assert.equal(asked(server, '/keys'), 0);
  });

  it('are refused when the document redirects', async () => {
    await using server = await keyServer();
    server.answers.set(wellKnown, (_request, response) => response.writeHead(301, { location: '/elsewhere' }).end());
    assert.equal(await outcome(worldOf({ keys: { discovery: server.url } }), ecKey()), 'IDENTITY_SOURCE_UNAVAILABLE');
    assert.equal(asked(server, '/elsewhere'), 0);
  });
});

describe('a source of keys as a Kubernetes API server is one', () => {
  it('is trusted by its own CA and shown our token, both read anew each time', async () => {
    await using folder = await tempFolder();
    await using server = await keyServer({ tls: true });
    await using stranger = await keyServer({ tls: true });
    const key = ecKey();
    const [caFile, tokenFile] = [folder.file('ca.crt'), folder.file('token')];
    await writeFile(caFile, stranger.caPem);
    await writeFile(tokenFile, 'first-token\n');
    server.answers.set('/keys', json(keySet(key)));
    const world = worldOf({ keys: { jwks: `${server.url}/keys` }, caFile, tokenFile });

    assert.equal(await outcome(world, key), 'IDENTITY_SOURCE_UNAVAILABLE');
    assert.equal(server.requests.length, 0);
    await replaceFile(caFile, server.caPem);
    world.clock.advance(floorMs);
    assert.equal(await outcome(world, key), 'ok');
    await replaceFile(tokenFile, 'second-token');
    world.clock.advance(floorMs);
    assert.equal(await outcome(world, ecKey()), 'unknown-key');
    assert.deepEqual(
      server.requests.map(({ authorization }) => authorization),
      ['Bearer first-token', 'Bearer second-token'],
    );
  });

  it("is not trusted by the system's CAs alone", async () => {
    await using server = await keyServer({ tls: true });
    server.answers.set('/keys', json(keySet()));
    assert.equal(await outcome(worldOf({ keys: { jwks: `${server.url}/keys` } }), ecKey()), 'IDENTITY_SOURCE_UNAVAILABLE');
    assert.equal(server.requests.length, 0);
  });

  it('gets our token for itself: no other server that the document names is shown it', async () => {
    await using folder = await tempFolder();
    await using server = await keyServer();
    await using other = await keyServer();
    const key = ecKey();
    const tokenFile = folder.file('token');
    await writeFile(tokenFile, 'our-token');
    server.answers.set(wellKnown, json({ issuer: 'https://kubernetes.example', jwks_uri: `${other.url}/keys` }));
    other.answers.set('/keys', json(keySet(key)));
    assert.equal(await outcome(worldOf({ keys: { discovery: server.url }, tokenFile }), key), 'ok');
    assert.equal(server.requests[0]?.authorization, 'Bearer our-token');
    assert.equal(other.requests[0]?.authorization, undefined);
  });

  it('is not asked with a broken token file, whose content nobody gets to see', async () => {
    await using folder = await tempFolder();
    await using server = await keyServer();
    const tokenFile = folder.file('token');
    for (const content of ['', 'two secret-words', 'secret\nx-injected: 1', 's'.repeat(20_000)]) {
      await writeFile(tokenFile, content);
      const world = worldOf({ keys: { jwks: `${server.url}/keys` }, tokenFile });
      assert.equal(await outcome(world, ecKey()), 'IDENTITY_SOURCE_UNAVAILABLE');
      const told = world.log.lines.map(({ fields, message }) => `${message} ${String((fields as { err?: Error }).err?.stack)}`).join('\n');
      assert.ok(!told.includes('secret') && !told.includes('sssss'));
    }
    assert.equal(server.requests.length, 0);
  });
});

describe('keys from a file', () => {
  it('are read again when it changes; while it is broken or gone the last good ones stay', async () => {
    await using folder = await tempFolder();
    const file = folder.file('keys.json');
    const [old, fresh] = [ecKey(), ecKey()];
    await writeFile(file, JSON.stringify(keySet(old)));
    const world = worldOf({ keys: { jwks: file } }, { ...limits, floorMs: 0, refreshEveryMs: 10, retry: { baseMs: 5, maxMs: 10 } });
    await world.authenticator.start(noHurry);
    const caller = await world.authenticator.authenticate(withToken(signToken(old, podClaims(world.clock.now()))), noHurry);

    await writeFile(file, '{"keys":[{"kty":"EC",');
    await eventually('the broken file is noticed', () => world.authenticator.keySources()[0]?.failingSince);
    assert.equal(world.authenticator.stillProved(caller), true);
    await rm(file);
    assert.equal(await outcome(world, fresh), 'IDENTITY_SOURCE_UNAVAILABLE');
    assert.equal(await outcome(world, old), 'ok');

    await replaceFile(file, JSON.stringify(keySet(fresh)));
    await eventually('the old key is gone', () => !world.authenticator.stillProved(caller) || undefined);
    assert.equal(await outcome(world, fresh), 'ok');
    assert.equal(await outcome(world, old), 'unknown-key');
    world.authenticator.close();
  });

  it('are refused from what is no regular file of a sensible size', async () => {
    await using folder = await tempFolder();
    await writeFile(folder.file('big'), JSON.stringify({ ...keySet(), pad: 'x'.repeat(300_000) }));
    for (const jwks of [folder.path, folder.file('big'), folder.file('none'), '/dev/zero']) {
      assert.equal(await outcome(worldOf({ keys: { jwks } }), ecKey()), 'IDENTITY_SOURCE_UNAVAILABLE', jwks);
    }
  });
});
