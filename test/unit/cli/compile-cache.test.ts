import assert from 'node:assert/strict';
import { chmod, chown, mkdir, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { test } from 'node:test';
import { compileCacheFolder, isOurs } from '../../../src/cli/compile-cache.ts';
import { tempFolder } from '../../support/temp.ts';

test('the cache is in the folder that the user gave for caches, or in the home', () => {
  assert.equal(compileCacheFolder({ XDG_CACHE_HOME: '/var/cache/mine' }), '/var/cache/mine/signet/compiled');
  assert.equal(compileCacheFolder({}), `${homedir()}/.cache/signet/compiled`);
});

test('a new folder is ours alone', async () => {
  await using folder = await tempFolder();
  const cache = folder.file('a/b');
  assert.equal(isOurs(cache), true);
  assert.equal((await stat(cache)).mode & 0o777, 0o700);
});

test('one that others may write to, that is somebody else’s, or that is no folder is not used', async () => {
  await using folder = await tempFolder();
  const open = folder.file('open');
  await mkdir(open);
  await chmod(open, 0o777);
  assert.equal(isOurs(open), false);
  const file = folder.file('file');
  await writeFile(file, '');
  assert.equal(isOurs(file), false);
  if (process.geteuid?.() === 0) {
    const foreign = folder.file('foreign');
    await mkdir(foreign);
    await chown(foreign, 12_345, 12_345);
    assert.equal(isOurs(foreign), false);
  }
});
