import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { openSealingKey } from '../../../src/agent/sealing-key.ts';
import type { KeySeal } from '../../../src/ca/key-seal.ts';
import { keySealFromKey } from '../../../src/ca/key-seal.ts';
import { tempFolder } from '../../support/temp.ts';

const newKey = (): string => randomBytes(32).toString('base64');

function opensWith(seal: KeySeal | undefined, key: string): boolean {
  const sealed = keySealFromKey(key).seal('purpose', 'web', Buffer.from('known'));
  try {
    return seal?.open('purpose', 'web', sealed).toString() === 'known';
  } catch {
    return false;
  }
}

describe('the key that seals the cache', () => {
  it('is the file’s, else the environment’s, else the systemd credential, else there is none', async () => {
    await using folder = await tempFolder();
    const [inFile, inEnvironment, inCredential] = [newKey(), newKey(), newKey()];
    const file = folder.file('key');
    await writeFile(file, `${inFile}\n`);
    await writeFile(folder.file('signet-sealing-key'), inCredential);
    const env = () => ({ SIGNET_SEALING_KEY: inEnvironment, CREDENTIALS_DIRECTORY: folder.path });
    assert.ok(opensWith(await openSealingKey(file, env()), inFile));
    assert.ok(opensWith(await openSealingKey(undefined, env()), inEnvironment));
    assert.ok(opensWith(await openSealingKey(undefined, { CREDENTIALS_DIRECTORY: folder.path }), inCredential));
    assert.equal(await openSealingKey(undefined, { CREDENTIALS_DIRECTORY: '/nowhere' }), undefined);
    assert.equal(await openSealingKey(undefined, {}), undefined);
  });

  it('is not left in the environment for child processes', async () => {
    const env: NodeJS.ProcessEnv = { SIGNET_SEALING_KEY: newKey() };
    await openSealingKey(undefined, env);
    assert.deepEqual(Object.keys(env), []);
  });

  it('is refused by its place, with nothing of it, when it is none', async () => {
    await assert.rejects(openSealingKey(undefined, { SIGNET_SEALING_KEY: 'hunter2' }), (error: Error) => {
      assert.match(error.message, /^SIGNET_SEALING_KEY: a sealing key is 32 random bytes/);
      assert.ok(!error.message.includes('hunter2'));
      return true;
    });
    await assert.rejects(openSealingKey('/nowhere/key', {}), { code: 'CONFIG_INVALID', message: /cache\.sealingKeyFile/ });
  });
});
