import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { systemClock } from '../../../src/base/clock.ts';
import { openDatabase } from '../../../src/store/sqlite/database.ts';
import { openIssuedIndex } from '../../../src/store/sqlite/issued-index.ts';
import { openSqliteStore } from '../../../src/store/sqlite/sqlite-store.ts';
import type { IssuedRecord, Store } from '../../../src/store/store.ts';
import { silentLog } from '../../support/silent-log.ts';
import { day, issuedRecord, noon } from '../../support/store-suite.ts';
import { tempFolder } from '../../support/temp.ts';

/** More than two tails' worth, so that rows are in the tables, on their way there, and in memory. */
const many = 20_000;

function recordNumber(i: number): IssuedRecord {
  return issuedRecord({
    spiffeId: `spiffe://example.org/ns/n${String(i % 50)}/sa/web`,
    instance: `pod-${String(i % 400)}`,
    notAfter: noon + (i % 1000) * 1000,
    issuedAt: noon + i,
  });
}

async function checkAll(store: Store, records: readonly IssuedRecord[], when: string): Promise<void> {
  for (let i = 0; i < records.length; i += 97) {
    const record = records[i];
    assert.ok(record);
    assert.deepEqual(await store.issued.get(record.serial), record, when);
    assert.equal(await store.issued.any(record.spiffeId, record.instance), true, when);
  }
  assert.equal(await store.issued.any('spiffe://example.org/ns/n1/sa/web', 'pod-2'), false, when);
  assert.equal(await store.issued.newest(), noon + records.length - 1, when);
  const at = noon + 500_000;
  const alive = records.filter(({ notAfter }) => notAfter > at);
  assert.equal(await store.issued.countUnexpired(at), alive.length, when);
  const one = 'spiffe://example.org/ns/n7/sa/web';
  const newest = records.toReversed();
  const listed = async (query: Omit<Parameters<Store['issued']['list']>[0], 'limit'>): Promise<readonly IssuedRecord[]> =>
    (await store.issued.list({ ...query, limit: 1000 })).items;
  assert.deepEqual(await listed({ spiffeId: one }), newest.filter(({ spiffeId }) => spiffeId === one).slice(0, 1000), when);
  assert.deepEqual(
    await listed({ spiffeId: one, instance: 'pod-7', unexpiredAt: at }),
    newest.filter(({ spiffeId, instance, notAfter }) => spiffeId === one && instance === 'pod-7' && notAfter > at),
    when,
  );
  assert.deepEqual(
    await listed({ unexpiredAt: noon + 998_000 }),
    newest.filter(({ notAfter }) => notAfter > noon + 998_000),
    when,
  );
}

async function append(store: Store, records: readonly IssuedRecord[]): Promise<void> {
  for (let from = 0; from < records.length; from += 100) await store.appendIssued(records.slice(from, from + 100));
}

describe('the index of issued certificates', () => {
  it('answers alike for rows in memory, on their way and in its tables, and after restarts', async () => {
    await using folder = await tempFolder();
    const open = () => openSqliteStore({ file: folder.file('signet.db'), clock: systemClock, log: silentLog });
    const records = Array.from({ length: many }, (_, i) => recordNumber(i));
    let store = await open();
    await append(store, records.slice(0, 8192));
    // The batch is being indexed now, slice by slice; what is asked meanwhile must not see half of it twice.
    await checkAll(store, records.slice(0, 8192), 'while indexing');
    await append(store, records.slice(8192));
    await checkAll(store, records, 'after appending');
    await store.close();
    store = await open();
    await checkAll(store, records, 'after a restart');
    assert.equal(await store.prune(0), 0);
    await checkAll(store, records, 'all indexed');
    const seventh = records[7];
    assert.ok(seventh);
    await assert.rejects(store.appendIssued([seventh]), 'a serial that only the tables know is refused');
    await store.close();
    store = await open();
    await checkAll(store, records, 'all indexed, after a restart');
    assert.equal(await store.prune(noon + 500_000), records.filter(({ notAfter }) => notAfter < noon + 500_000).length);
    await append(store, [issuedRecord({ issuedAt: noon + day })]);
    for (const record of records.slice(0, 1000)) {
      assert.deepEqual(await store.issued.get(record.serial), record.notAfter < noon + 500_000 ? undefined : record);
    }
    await store.close();
  });

  it('leaves it to the log to be synced off the event loop, also after it has been written', async () => {
    await using folder = await tempFolder();
    const db = openDatabase(folder.file('signet.db'));
    const levelOf = (): unknown => db.prepare('PRAGMA synchronous').get()?.['synchronous'];
    const before = levelOf();
    const index = openIssuedIndex(db, silentLog);
    index.add(1, recordNumber(1));
    await index.settle();
    assert.equal(index.indexedTo, 1);
    assert.equal(levelOf(), before);
    db.close();
  });

  it('forgets neither the newest issuance nor the ids of pruned rows', async () => {
    await using folder = await tempFolder();
    const open = () => openSqliteStore({ file: folder.file('signet.db'), clock: systemClock, log: silentLog });
    let store = await open();
    await store.appendIssued([issuedRecord({ notAfter: noon - day, issuedAt: noon + 7 * day })]);
    assert.equal(await store.prune(noon), 1);
    await store.close();
    store = await open();
    assert.equal(await store.issued.newest(), noon + 7 * day);
    const next = issuedRecord({ serial: randomBytes(20).toString('hex') });
    await store.appendIssued([next]);
    assert.deepEqual(await store.issued.get(next.serial), next);
    assert.deepEqual((await store.issued.list({ limit: 10 })).items, [next]);
    await store.close();
  });
});
