import assert from 'node:assert/strict';
import { createPublicKey, hash } from 'node:crypto';
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { SignetError } from '../../../src/base/errors.ts';
import type { ErrorCode } from '../../../src/base/errors.ts';
import type { BoundKey } from '../../../src/cli/certificate-client.ts';
import { bindOnce } from '../../../src/cli/key-binding.ts';
import type { BindDeps } from '../../../src/cli/key-binding.ts';
import { openKeyFolder } from '../../../src/cli/key-folder.ts';
import { parseCsr } from '../../../src/x509/csr.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';
import { tempFolder } from '../../support/temp.ts';

const hour = 3_600_000;

/** The workload's host: a folder of keys, and a server that answers as told and remembers what it was asked. */
async function host(answers: readonly (ErrorCode | 'yes')[] = []) {
  const temp = await tempFolder();
  const keyDirectory = temp.file('keys');
  const clock = simulatedClock();
  const folder = await openKeyFolder(keyDirectory, () => clock.now());
  const asked: { readonly spkiSha256: string; readonly filesThen: readonly string[] }[] = [];
  const left = [...answers];
  const bindKey: BindDeps['bindKey'] = async ({ csr }) => {
    const { spkiSha256 } = parseCsr(csr).key;
    asked.push({ spkiSha256, filesThen: await readdir(keyDirectory) });
    const answer = left.shift() ?? 'yes';
    if (answer !== 'yes') throw new SignetError(answer, 'as told');
    return {
      spiffeId: 'spiffe://cluster.local/ns/shop/sa/web',
      instance: 'pod:1',
      keyFile: join(keyDirectory, `${spkiSha256}.key`),
      keyEnds: (clock.now() + 30 * 24 * hour) / 1000,
    } satisfies BoundKey;
  };
  const bind = (again = false): Promise<BoundKey> => bindOnce({ folder, keyDirectory, algorithm: 'ec-p256', bindKey }, again);
  const keys = async (): Promise<readonly string[]> => (await readdir(keyDirectory)).filter((name) => name.endsWith('.key'));
  return {
    folder,
    keyDirectory,
    clock,
    asked,
    bind,
    keys,
    [Symbol.asyncDispose]: async () => {
      folder.close();
      await temp[Symbol.asyncDispose]();
    },
  };
}

describe('binding a key', () => {
  it('has the key on disk, for its owner alone, before the server hears of it', async () => {
    await using it = await host();
    const { keyFile } = await it.bind();
    const [first] = it.asked;
    assert.ok(first?.filesThen.includes(`${first.spkiSha256}.key`));
    assert.equal((await stat(keyFile)).mode & 0o777, 0o600);
    assert.equal((await stat(it.keyDirectory)).mode & 0o777, 0o700);
  });

  it('names the file by the SHA-256 of the public key that is in it', async () => {
    await using it = await host();
    const { keyFile } = await it.bind();
    const spki = createPublicKey(await readFile(keyFile)).export({ type: 'spki', format: 'der' });
    assert.ok(keyFile.endsWith(`/${hash('sha256', spki, 'hex')}.key`));
  });

  it('asks for no name: the server knows whose token it is', async () => {
    await using it = await host();
    let names: readonly string[] = ['unasked'];
    await bindOnce(
      {
        folder: it.folder,
        keyDirectory: it.keyDirectory,
        algorithm: 'ec-p384',
        bindKey: ({ csr }) => {
          const request = parseCsr(csr);
          names = [...request.uris, ...request.otherNames];
          return Promise.reject(new SignetError('PERMISSION_DENIED', 'enough'));
        },
      },
      false,
    ).catch(() => undefined);
    assert.deepEqual(names, []);
  });

  it('keeps the key before, until its grace is over, and removes no file that it did not make', async () => {
    await using it = await host();
    const first = await it.bind();
    await writeFile(join(it.keyDirectory, `${'ab'.repeat(32)}.key`), "somebody else's");
    it.clock.advance(hour);
    const second = await it.bind();
    assert.notEqual(second.keyFile, first.keyFile);
    it.clock.advance(23 * hour);
    assert.deepEqual(await it.folder.removeSuperseded(it.clock.now() - 24 * hour), []);
    it.clock.advance(2 * hour);
    assert.deepEqual(await it.folder.removeSuperseded(it.clock.now() - 24 * hour), [first.keyFile]);
    assert.deepEqual((await it.keys()).toSorted(), [`${'ab'.repeat(32)}.key`, second.keyFile.slice(it.keyDirectory.length + 1)].toSorted());
  });

  it('leaves no key behind that the server refused', async () => {
    await using it = await host(['PERMISSION_DENIED']);
    await assert.rejects(it.bind(), { code: 'PERMISSION_DENIED' });
    assert.deepEqual(await it.keys(), []);
  });

  for (const code of ['AUTHORITY_UNAVAILABLE', 'DEADLINE_EXCEEDED', 'INTERNAL', 'CANCELLED'] as const) {
    it(`keeps a key whose answer was lost (${code}) and offers the same one again: the server may have bound it`, async () => {
      await using it = await host([code]);
      await assert.rejects(it.bind(), { code });
      const bound = await it.bind();
      assert.equal(it.asked.length, 2);
      assert.equal(it.asked[0]?.spkiSha256, it.asked[1]?.spkiSha256);
      assert.deepEqual(await it.keys(), [bound.keyFile.slice(it.keyDirectory.length + 1)]);
    });
  }

  it('offers the bound key again after a restart, and does not lose it when the server refuses to be asked', async () => {
    await using it = await host(['yes', 'RATE_LIMITED']);
    const first = await it.bind();
    await assert.rejects(it.bind(true), { code: 'RATE_LIMITED' });
    assert.equal((await it.bind(true)).keyFile, first.keyFile);
    assert.equal((await it.keys()).length, 1);
  });

  it('makes a new key when the file of the bound one is gone', async () => {
    await using it = await host();
    const first = await it.bind();
    await rm(first.keyFile);
    assert.notEqual((await it.bind(true)).keyFile, first.keyFile);
  });

  it('makes a new key when the file holds another one than its name says', async () => {
    await using it = await host();
    const first = await it.bind();
    const second = await it.bind();
    await writeFile(second.keyFile, await readFile(first.keyFile));
    const third = await it.bind(true);
    assert.ok(third.keyFile !== first.keyFile && third.keyFile !== second.keyFile);
  });
});

describe('the folder of keys', () => {
  it('is for one `signet csr` at a time', async () => {
    await using it = await host();
    await assert.rejects(
      openKeyFolder(it.keyDirectory, () => 0),
      { code: 'STORE_LOCKED' },
    );
  });

  it('remembers over a restart what is bound and what is superseded', async () => {
    await using temp = await tempFolder();
    const clock = simulatedClock();
    const now = (): number => clock.now();
    const before = await openKeyFolder(temp.path, now);
    const old = before.make('ec-p256');
    before.markBound(old, 5);
    const current = before.make('ec-p256');
    before.markBound(current, 7);
    before.close();
    const after = await openKeyFolder(temp.path, now);
    assert.deepEqual(after.bound(), { ...current, keyEnds: 7 });
    assert.deepEqual(await after.removeSuperseded(clock.now() + 1), [after.fileOf(old)]);
    after.close();
  });

  it('says so when its record is no record', async () => {
    await using temp = await tempFolder();
    await writeFile(temp.file('signet-csr.db'), 'this is not SQLite, however long it goes on being text');
    await assert.rejects(
      openKeyFolder(temp.path, () => 0),
      { code: 'STORE_CORRUPT' },
    );
  });
});
