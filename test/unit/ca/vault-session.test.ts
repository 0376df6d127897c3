import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { z } from 'zod';
import { systemClock } from '../../../src/base/clock.ts';
import type { ErrorCode, SignetError } from '../../../src/base/errors.ts';
import { createVaultSession } from '../../../src/ca/vault/session.ts';
import type { VaultSession } from '../../../src/ca/vault/session.ts';
import { retryAfter, vaultFault } from '../../../src/ca/vault/vault-fault.ts';
import { failureOf } from '../../support/failure.ts';
import { json, keyServer } from '../../support/key-server.ts';
import type { Answer, KeyServer } from '../../support/key-server.ts';
import { silentLog } from '../../support/silent-log.ts';
import { tempFolder } from '../../support/temp.ts';
import type { TempFolder } from '../../support/temp.ts';

const never = new AbortController().signal;
const token = 'hvs.CAESI-secret-token';
const secretId = '3d7e9c4e-secret-id';
const granted = json({ auth: { client_token: token, lease_duration: 3600, renewable: true } });
const says =
  (status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): Answer =>
  (_request, response) => {
    response.writeHead(status, headers).end(typeof body === 'string' ? body : JSON.stringify(body));
  };

interface FakeVault extends AsyncDisposable {
  readonly server: KeyServer;
  readonly folder: TempFolder;
  readonly session: VaultSession;
  asked(path: string): number;
  get(): Promise<unknown>;
}

/** An HTTP server that answers as a test says; what a real one does is in test/backends. */
async function fakeVault(): Promise<FakeVault> {
  const [server, folder] = [await keyServer(), await tempFolder()];
  await writeFile(folder.file('role-id'), 'role');
  await writeFile(folder.file('secret-id'), secretId);
  const session = createVaultSession({
    label: 'corporate (Vault at http://127.0.0.1)',
    connection: {
      address: server.url,
      login: { type: 'approle', mount: 'approle', roleIdFile: folder.file('role-id'), secretIdFile: folder.file('secret-id') },
    },
    clock: systemClock,
    log: silentLog,
  });
  server.answers.set('/v1/auth/approle/login', granted);
  return {
    server,
    folder,
    session,
    asked: (path) => server.requests.filter((request) => request.path === path).length,
    get: () => session.call({ method: 'GET', path: 'pki/x' }, z.object({ data: z.object({ a: z.number() }) }), never),
    async [Symbol.asyncDispose]() {
      await session.close();
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

describe('what Vault answers', () => {
  const cases: readonly (readonly [what: string, answer: Answer, code: ErrorCode])[] = [
    ['a body that is no JSON', says(200, '<html>'), 'AUTHORITY_UNAVAILABLE'],
    ['JSON of another shape', says(200, { data: { a: token } }), 'AUTHORITY_UNAVAILABLE'],
    ['more than it may', says(200, JSON.stringify({ data: { a: 1 } }) + ' '.repeat(300_000)), 'AUTHORITY_UNAVAILABLE'],
    ['a redirect, which is not followed', says(307, '', { location: 'http://127.0.0.1:1/v1/pki/x' }), 'AUTHORITY_UNAVAILABLE'],
    ['that it is sealed', says(503, { errors: ['Vault is sealed'] }), 'AUTHORITY_UNAVAILABLE'],
    ['an error without a body', says(500, ''), 'AUTHORITY_UNAVAILABLE'],
    ['that a replica lags behind', says(412, { errors: ['required index state not present'] }), 'AUTHORITY_UNAVAILABLE'],
    ['no such mount', says(404, { errors: ['no handler for route "pki/x"'] }), 'AUTHORITY_MISCONFIGURED'],
    ['no such role', says(400, { errors: ['unknown role: x'] }), 'AUTHORITY_MISCONFIGURED'],
    ['a name that the role forbids', says(400, { errors: ['URI SAN not allowed by this role'] }), 'AUTHORITY_REFUSED'],
    ['that it is asked too often', says(429, { errors: ['rate limit quota exceeded'] }, { 'retry-after': '3' }), 'AUTHORITY_THROTTLED'],
  ];
  for (const [what, answer, code] of cases) {
    it(`${what}: ${code}`, async () => {
      await using vault = await fakeVault();
      vault.server.answers.set('/v1/pki/x', answer);
      const error = await failureOf(vault.get());
      assert.equal(error.code, code, error.message);
      assert.match(error.message, /^corporate \(Vault at http:\/\/127\.0\.0\.1\): /);
      assert.ok(!error.message.includes(token));
      assert.equal(error.retryAfterMs, code === 'AUTHORITY_THROTTLED' ? 3000 : undefined);
    });
  }

  it('nothing: a call ends when it is cancelled', async () => {
    await using vault = await fakeVault();
    vault.server.answers.set('/v1/pki/x', () => undefined);
    const stop = new AbortController();
    const call = failureOf(vault.session.call({ method: 'GET', path: 'pki/x' }, z.unknown(), stop.signal));
    await sleep(50);
    stop.abort();
    assert.equal((await call).code, 'CANCELLED');
  });

  it('in its reasons no credential that it was given, and no control character', () => {
    fc.assert(
      fc.property(fc.array(fc.string(), { maxLength: 5 }), fc.integer({ min: 300, max: 599 }), (reasons, status) => {
        const told = reasons.flatMap((reason) => [reason, `\u001b[31m${secretId}`]);
        const error = vaultFault('v', 'GET x', { status, reasons: told, retryAfterMs: undefined }, [secretId]);
        assert.ok(!error.message.includes(secretId));
        assert.ok(error.message.length < 700);
        assert.doesNotMatch(error.message, /\p{Cc}/u);
      }),
    );
  });

  it('a time to come back: seconds or a date, within an hour', () => {
    const now = Date.parse('2026-01-01T00:00:00Z');
    assert.deepEqual(
      ['7', 'Thu, 01 Jan 2026 00:00:10 GMT', 'soon', '-1', '999999', 'Wed, 31 Dec 2025 00:00:00 GMT', undefined].map((header) =>
        retryAfter(header, now),
      ),
      [7000, 10_000, undefined, undefined, undefined, undefined, undefined],
    );
  });
});

describe('a session', () => {
  it('logs in once for all who need it', async () => {
    await using vault = await fakeVault();
    vault.server.answers.set('/v1/pki/x', json({ data: { a: 1 } }));
    await Promise.all(Array.from({ length: 20 }, () => vault.get()));
    assert.equal(vault.asked('/v1/auth/approle/login'), 1);
  });

  it('shows a credential that was refused no second time for a while, however many ask', async () => {
    await using vault = await fakeVault();
    vault.server.answers.set('/v1/auth/approle/login', says(400, { errors: [`invalid secret ID ${secretId}`] }));
    const errors: SignetError[] = [];
    for (let i = 0; i < 20; i++) errors.push(await failureOf(vault.get()));
    assert.deepEqual([...new Set(errors.map(({ code }) => code))], ['AUTHORITY_REFUSED']);
    assert.equal(vault.asked('/v1/auth/approle/login'), 1);
    assert.ok(!errors.some(({ message }) => message.includes(secretId)));
  });

  it('asks again at once when Vault was only away', async () => {
    await using vault = await fakeVault();
    vault.server.answers.set('/v1/auth/approle/login', says(503, { errors: ['Vault is sealed'] }));
    assert.equal((await failureOf(vault.get())).code, 'AUTHORITY_UNAVAILABLE');
    vault.server.answers.set('/v1/auth/approle/login', granted);
    vault.server.answers.set('/v1/pki/x', json({ data: { a: 1 } }));
    await vault.get();
  });

  it('does not log in anew for a path that its policies forbid to a token that is new', async () => {
    await using vault = await fakeVault();
    vault.server.answers.set('/v1/pki/x', says(403, { errors: ['permission denied'] }));
    for (let i = 0; i < 5; i++) assert.equal((await failureOf(vault.get())).code, 'AUTHORITY_REFUSED');
    assert.equal(vault.asked('/v1/auth/approle/login'), 1);
  });

  it('names the file that it can not read, and nothing of it', async () => {
    await using vault = await fakeVault();
    await writeFile(vault.folder.file('secret-id'), `${secretId}\n${secretId}`);
    const error = await failureOf(vault.get());
    assert.equal(error.code, 'AUTHORITY_MISCONFIGURED');
    assert.match(error.message, /login\.secretIdFile: .*secret-id does not hold one secret/);
    assert.ok(!error.message.includes(secretId));
  });
});
