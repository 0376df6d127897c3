import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { SignetError } from '../../../src/base/errors.ts';
import { parseTrustDomain } from '../../../src/spiffe/id.ts';
import { createFile, replaceFile } from '../../../src/store/atomic-file.ts';
import { dataFolderPaths, openDataFolder } from '../../../src/store/data-folder.ts';
import type { FolderMode } from '../../../src/store/data-folder.ts';
import { tempFolder } from '../../support/temp.ts';

const refused = (code: string, says: RegExp) => (error: unknown) => {
  assert.ok(error instanceof SignetError, String(error));
  assert.equal(error.code, code);
  assert.match(error.message, says);
  return true;
};

function open(directory: string, mode: FolderMode = 'production', trustDomain = 'example.org'): void {
  openDataFolder({ directory, mode, trustDomain: parseTrustDomain(trustDomain) }).close();
}

describe('a data folder', () => {
  it('is made with mode 0700 and a manifest, and opens again', async () => {
    await using parent = await tempFolder();
    const directory = join(parent.path, 'deep', 'data');
    open(directory);
    assert.equal(statSync(directory).mode & 0o777, 0o700);
    const { manifest } = dataFolderPaths(directory);
    assert.equal(statSync(manifest).mode & 0o777, 0o600);
    assert.deepEqual(JSON.parse(readFileSync(manifest, 'utf8')), { format: 1, mode: 'production', trustDomain: 'example.org' });
    assert.deepEqual(readdirSync(directory), ['folder.json'], 'nothing temporary is left');
    open(directory);
  });

  it('is refused when others may enter it', async () => {
    await using parent = await tempFolder();
    for (const mode of [0o755, 0o750, 0o701]) {
      const directory = join(parent.path, mode.toString(8));
      mkdirSync(directory);
      chmodSync(directory, mode);
      assert.throws(
        () => {
          open(directory);
        },
        refused('CONFIG_INVALID', /must be 0700: chmod 700/),
      );
      assert.deepEqual(readdirSync(directory), [], 'and nothing was written');
      chmodSync(directory, 0o700);
      open(directory);
    }
  });

  // Only root can give a folder away; to anybody else root's own folders are another's.
  it("is refused when it is another user's", async () => {
    await using parent = await tempFolder();
    const directory = process.geteuid?.() === 0 ? join(parent.path, 'given') : '/root';
    if (directory !== '/root') {
      mkdirSync(directory, { mode: 0o700 });
      chownSync(directory, 12345, 12345);
    }
    assert.throws(
      () => {
        open(directory);
      },
      refused('CONFIG_INVALID', /belongs to user|can't be made or written/),
    );
  });

  it("says so when it can't be made", async () => {
    await using parent = await tempFolder();
    writeFileSync(parent.file('file'), '');
    for (const directory of [parent.file('file'), join(parent.path, 'file', 'below'), '/proc/signet']) {
      assert.throws(
        () => {
          open(directory);
        },
        refused('CONFIG_INVALID', /can't be made or written to \(E/),
      );
    }
  });

  it('made with --dev is refused without, and the other way round', async () => {
    await using parent = await tempFolder();
    open(join(parent.path, 'dev'), 'dev');
    assert.throws(
      () => {
        open(join(parent.path, 'dev'));
      },
      refused('STORE_MISMATCH', /made with --dev/),
    );
    open(join(parent.path, 'prod'));
    assert.throws(
      () => {
        open(join(parent.path, 'prod'), 'dev');
      },
      refused('STORE_MISMATCH', /production folder/),
    );
  });

  it('of another trust domain or a newer format is refused', async () => {
    await using parent = await tempFolder();
    const directory = join(parent.path, 'data');
    open(directory);
    assert.throws(
      () => {
        open(directory, 'production', 'other.org');
      },
      refused('STORE_MISMATCH', /example\.org.*other\.org/),
    );
    const { manifest } = dataFolderPaths(directory);
    writeFileSync(manifest, JSON.stringify({ format: 2, mode: 'production', trustDomain: 'example.org' }));
    assert.throws(
      () => {
        open(directory);
      },
      refused('STORE_MISMATCH', /newer/),
    );
  });

  it('with a bad manifest, or a database and none, is refused', async () => {
    await using parent = await tempFolder();
    const directory = join(parent.path, 'data');
    open(directory);
    const { manifest, database } = dataFolderPaths(directory);
    for (const bad of [
      '',
      '{',
      '[]',
      '{"format":1}',
      '{"format":1,"mode":"dev","trustDomain":"example.org","more":1}',
      ' '.repeat(10_000),
    ]) {
      writeFileSync(manifest, bad);
      assert.throws(
        () => {
          open(directory);
        },
        refused('STORE_CORRUPT', /backup/),
      );
    }
    rmSync(manifest);
    writeFileSync(database, '');
    assert.throws(
      () => {
        open(directory);
      },
      refused('STORE_CORRUPT', /folder\.json is not/),
    );
  });

  it('for production is refused when the key-encryption key lies beside the data', async () => {
    await using parent = await tempFolder();
    const [production, dev] = [join(parent.path, 'production'), join(parent.path, 'dev')];
    open(production);
    writeFileSync(dataFolderPaths(production).kek, 'key');
    assert.throws(
      () => {
        open(production);
      },
      refused('STORE_MISMATCH', /beside the data/),
    );
    open(dev, 'dev');
    writeFileSync(dataFolderPaths(dev).kek, 'key');
    open(dev, 'dev');
  });
});

describe('a file written atomically', () => {
  it('is replaced whole, made only once, and leaves nothing behind', async () => {
    await using folder = await tempFolder();
    const path = folder.file('one');
    assert.equal(createFile(path, 'first'), true);
    assert.equal(createFile(path, 'second'), false);
    assert.equal(readFileSync(path, 'utf8'), 'first');
    replaceFile(path, 'third', 0o640);
    assert.equal(readFileSync(path, 'utf8'), 'third');
    assert.equal(statSync(path).mode & 0o777, 0o640);
    mkdirSync(folder.file('folder'));
    assert.throws(() => {
      replaceFile(folder.file('folder'), 'x');
    });
    assert.deepEqual(readdirSync(folder.path).sort(), ['folder', 'one']);
  });
});
