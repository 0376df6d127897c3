import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, open, rm, stat, writeFile } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../../src/base/clock.ts';
import { SignetError } from '../../../src/base/errors.ts';
import { migrate } from '../../../src/store/sqlite/migrations.ts';
import { openSqliteStore } from '../../../src/store/sqlite/sqlite-store.ts';
import type { Store } from '../../../src/store/store.ts';
import { keepTrack } from '../../support/process.ts';
import { silentLog } from '../../support/silent-log.ts';
import { issuedRecord } from '../../support/store-suite.ts';
import { tempFolder } from '../../support/temp.ts';

const writer = fileURLToPath(new URL('../../support/store-writer.ts', import.meta.url));

function openStore(file: string): Promise<Store> {
  return openSqliteStore({ file, clock: systemClock, log: silentLog });
}

/** Runs the writer, kills it with SIGKILL once it has printed `enough` serials, and gives every whole line it printed. */
async function writeUntilKilled(file: string, enough: number): Promise<string[]> {
  const child = spawn(process.execPath, [writer, file], { stdio: ['ignore', 'pipe', 'inherit'] });
  keepTrack(child);
  let output = '';
  for await (const chunk of child.stdout.setEncoding('utf8')) {
    output += String(chunk);
    if (output.length > enough * 33) child.kill('SIGKILL');
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  assert.equal(child.signalCode, 'SIGKILL');
  return output.split('\n').slice(0, -1);
}

describe('a killed store', () => {
  it('has lost nothing that it acknowledged, however often it is killed', async () => {
    await using folder = await tempFolder();
    const file = folder.file('signet.db');
    const acknowledged: string[] = [];
    // Odd sizes, so that the kills fall at different points; the largest one while a batch is being indexed.
    for (const enough of [1, 40, 777, 8200, 300]) acknowledged.push(...(await writeUntilKilled(file, enough)));
    assert.ok(acknowledged.length > 8192);
    const store = await openStore(file);
    for (const serial of acknowledged) assert.equal((await store.issued.get(serial))?.serial, serial);
    let listed = 0;
    for (let after: string | undefined, more = true; more; more = after !== undefined) {
      const page = await store.issued.list({ limit: 1000, ...(after === undefined ? {} : { after }) });
      listed += page.items.length;
      after = page.next;
    }
    assert.ok(listed >= acknowledged.length);
    await store.close();
  });

  it('leaves its folder to the next one, and a living one does not', async () => {
    await using folder = await tempFolder();
    const file = folder.file('signet.db');
    const child = spawn(process.execPath, [writer, file], { stdio: ['ignore', 'pipe', 'inherit'] });
    keepTrack(child);
    await once(child.stdout, 'data');
    await assert.rejects(openStore(file), (error) => error instanceof SignetError && error.code === 'STORE_LOCKED');
    child.kill('SIGKILL');
    await once(child, 'exit');
    await (await openStore(file)).close();
  });
});

describe('a damaged store', () => {
  const corrupt = (error: unknown): boolean =>
    error instanceof SignetError && error.code === 'STORE_CORRUPT' && /backup/.test(error.message);

  async function filled(file: string): Promise<void> {
    const store = await openStore(file);
    await store.appendIssued(Array.from({ length: 500 }, () => issuedRecord()));
    await store.trust.compareAndSet('ca/backend/builtin', 0, Buffer.alloc(5000, 7));
    await store.close();
  }

  it('is refused with advice when pages of it were overwritten', async () => {
    await using folder = await tempFolder();
    const whole = folder.file('whole.db');
    await filled(whole);
    const { size } = await stat(whole);
    for (let at = 4096; at < size; at += 4096) {
      const damaged = folder.file('damaged.db');
      await copyFile(whole, damaged);
      const handle = await open(damaged, 'r+');
      await handle.write(Buffer.alloc(4096, 0xa5), 0, 4096, at);
      await handle.close();
      await assert.rejects(openStore(damaged), corrupt, `page at ${String(at)}`);
      await rm(damaged);
    }
  });

  it('is refused when it was cut short or is something else', async () => {
    await using folder = await tempFolder();
    const whole = folder.file('whole.db');
    await filled(whole);
    const cut = folder.file('cut.db');
    await copyFile(whole, cut);
    const handle = await open(cut, 'r+');
    await handle.truncate(8192);
    await handle.close();
    await assert.rejects(openStore(cut), corrupt);
    const text = folder.file('text.db');
    await writeFile(text, 'this is not a database '.repeat(100));
    await assert.rejects(openStore(text), corrupt);
  });

  it('says so when it can’t be opened at all', async () => {
    await using folder = await tempFolder();
    const nowhere = (error: unknown): boolean =>
      error instanceof SignetError && error.code === 'CONFIG_INVALID' && /writable/.test(error.message);
    await assert.rejects(openStore(folder.file('no/such/folder.db')), nowhere);
    await assert.rejects(openStore(folder.path), nowhere);
  });
});

describe('the schema', () => {
  it('goes up version by version, and a step that fails leaves the version before it, whole', async () => {
    await using folder = await tempFolder();
    const db = new DatabaseSync(folder.file('schema.db'));
    const version = (): unknown => db.prepare('PRAGMA user_version').get()?.['user_version'];
    const steps = ['CREATE TABLE a (n INTEGER)', 'INSERT INTO a VALUES (1)'];
    migrate(db, steps);
    assert.equal(version(), 2);
    assert.throws(() => {
      migrate(db, [...steps, 'INSERT INTO a VALUES (2)', 'INSERT INTO a VALUES (3); SELECT nonsense']);
    });
    assert.equal(version(), 3);
    assert.deepEqual(
      db
        .prepare('SELECT n FROM a')
        .all()
        .map((row) => row['n']),
      [1, 2],
    );
    db.close();
  });

  it('of a newer program is left alone', async () => {
    await using folder = await tempFolder();
    const file = folder.file('signet.db');
    await (await openStore(file)).close();
    const db = new DatabaseSync(file);
    db.exec('PRAGMA user_version = 1000');
    db.close();
    await assert.rejects(
      openStore(file),
      (error) => error instanceof SignetError && error.code === 'STORE_MISMATCH' && /newer/.test(error.message),
    );
  });

  it('is in a file that only its owner may read', async () => {
    await using folder = await tempFolder();
    const file = folder.file('signet.db');
    const store = await openStore(file);
    await store.appendIssued([issuedRecord()]);
    for (const one of [file, `${file}-wal`]) assert.equal((await stat(one)).mode & 0o777, 0o600, one);
    await store.close();
  });
});
