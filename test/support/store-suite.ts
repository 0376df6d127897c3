import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { SignetError } from '../../src/base/errors.ts';
import type { Binding, Change, IssuedRecord, Store } from '../../src/store/store.ts';

/** Where one store of the suite keeps its data: several handles may be opened on it, one after the other or at once. */
export interface StoreLocation {
  open(): Promise<Store>;
  dispose(): Promise<void>;
}

export interface StoreBackend {
  readonly name: string;
  /** Whether two handles may be open at once (replicas); else the second is refused. */
  readonly shared: boolean;
  make(): Promise<StoreLocation>;
}

export const day = 86_400_000;
export const noon = Date.UTC(2026, 10, 23, 12);
const web = 'spiffe://example.org/ns/shop/sa/web';
const db = 'spiffe://example.org/ns/shop/sa/db';

export function issuedRecord(fields: Partial<IssuedRecord> = {}): IssuedRecord {
  const serial = randomBytes(16).toString('hex');
  return {
    serial,
    spiffeId: web,
    instance: 'pod-1',
    issuer: 'kubernetes',
    authority: 'builtin',
    issuerKeyId: 'a1b2c3',
    spkiSha256: createHash('sha256').update(serial).digest('hex'),
    notBefore: noon - 60_000,
    notAfter: noon + day,
    issuedAt: noon,
    trustGeneration: 1,
    authenticatedBy: 'token',
    tokenSeenAt: noon,
    keyMode: 'csr',
    ...fields,
  };
}

export function bindingOf(fields: Partial<Binding> = {}): Binding {
  return {
    spiffeId: web,
    instance: 'pod-1',
    issuer: 'kubernetes',
    spkiSha256: 'ab'.repeat(32),
    csr: Buffer.from([0x30, 0x00, 0xff]),
    keyFile: '/run/keys/abc.key',
    boundAt: noon,
    keyEnds: noon + 30 * day,
    lastUsedAt: noon,
    ...fields,
  };
}

function code(expected: string): (error: unknown) => boolean {
  return (error) => error instanceof SignetError && error.code === expected;
}

async function take(changes: AsyncIterable<Change>, count: number): Promise<Change[]> {
  const seen: Change[] = [];
  for await (const change of changes) if (seen.push(change) === count) break;
  return seen;
}

async function pages<T>(list: (after: string | undefined) => Promise<{ items: readonly T[]; next: string | undefined }>): Promise<T[]> {
  const all: T[] = [];
  let cursor: string | undefined;
  do {
    const page = await list(cursor);
    all.push(...page.items);
    cursor = page.next;
  } while (cursor !== undefined);
  return all;
}

/** What every backend of the store promises. The tests share one store, and keep apart by the names they use. */
export function storeSuite(backend: StoreBackend): void {
  describe(`store on ${backend.name}`, () => {
    let location: StoreLocation;
    let store: Store;
    const never = new AbortController().signal;

    before(async () => {
      location = await backend.make();
      store = await location.open();
    });
    after(async () => {
      await store.close();
      await location.dispose();
    });

    async function reopen(): Promise<void> {
      await store.close();
      store = await location.open();
    }

    describe('certificates on record', () => {
      it('gives back what was appended, field by field, also after a restart', async () => {
        const records = [issuedRecord(), issuedRecord({ instance: '', authenticatedBy: 'certificate', keyMode: 'signed' })];
        await store.appendIssued(records);
        for (const record of records) assert.deepEqual(await store.issued.get(record.serial), record);
        await reopen();
        for (const record of records) assert.deepEqual(await store.issued.get(record.serial), record);
      });

      it('knows no serial that it never saw', async () => {
        assert.equal(await store.issued.get('00'.repeat(16)), undefined);
        assert.equal(await store.issued.get("' OR 1=1 --"), undefined);
      });

      it('keeps serials apart that share their first bytes', async () => {
        const shared = randomBytes(12).toString('hex');
        const [one, two] = [issuedRecord({ serial: `${shared}01` }), issuedRecord({ serial: `${shared}02` })];
        await store.appendIssued([one]);
        await store.appendIssued([two]);
        assert.deepEqual(await store.issued.get(one.serial), one);
        assert.deepEqual(await store.issued.get(two.serial), two);
        assert.equal(await store.issued.get(shared), undefined);
      });

      it('refuses a serial that is there, alone: others of the same turn are recorded', async () => {
        const first = issuedRecord();
        await store.appendIssued([first]);
        const [before, again, twice, after] = [issuedRecord(), { ...first, instance: 'thief' }, issuedRecord(), issuedRecord()];
        const results = await Promise.allSettled([
          store.appendIssued([before]),
          store.appendIssued([issuedRecord({ instance: 'with-thief' }), again]),
          store.appendIssued([twice, twice]),
          store.appendIssued([after]),
        ]);
        assert.deepEqual(
          results.map((result) => result.status),
          ['fulfilled', 'rejected', 'rejected', 'fulfilled'],
        );
        assert.deepEqual(await store.issued.get(before.serial), before);
        assert.deepEqual(await store.issued.get(after.serial), after);
        assert.deepEqual(await store.issued.get(first.serial), first, 'the first one stays as it was');
        assert.equal(await store.issued.get(twice.serial), undefined, 'a batch is all or nothing');
        assert.equal(await store.issued.any(web, 'with-thief'), false, 'a batch is all or nothing');
        await assert.doesNotReject(store.appendIssued([twice]), 'what was rolled back can be appended');
      });

      it('refuses a serial that two callers of one turn have', async () => {
        const record = issuedRecord();
        const results = await Promise.allSettled([store.appendIssued([record]), store.appendIssued([{ ...record, instance: 'other' }])]);
        assert.deepEqual(results.map((result) => result.status).sort(), ['fulfilled', 'rejected']);
      });

      it('refuses what is no serial', async () => {
        for (const serial of ['', 'abc', 'AB', 'zz', '00'.repeat(21)]) {
          await assert.rejects(store.appendIssued([issuedRecord({ serial })]), code('INVALID_ARGUMENT'));
        }
      });

      it('knows whether a bearer was ever issued to', async () => {
        await store.appendIssued([issuedRecord({ spiffeId: db, instance: 'db-0' })]);
        assert.equal(await store.issued.any(db, 'db-0'), true);
        assert.equal(await store.issued.any(db, 'db-1'), false);
        assert.equal(await store.issued.any(`${db}-0`, ''), false);
      });

      it('remembers the newest issuance, whatever the order', async () => {
        await store.appendIssued([issuedRecord({ issuedAt: noon + 5 * day }), issuedRecord({ issuedAt: noon })]);
        assert.equal(await store.issued.newest(), noon + 5 * day);
        await reopen();
        assert.equal(await store.issued.newest(), noon + 5 * day);
      });

      it('lists newest first, page by page, each once', async () => {
        const spiffeId = 'spiffe://example.org/ns/pages/sa/web';
        const records = Array.from({ length: 25 }, (_, i) =>
          issuedRecord({ spiffeId, instance: `pod-${i % 2}`, notAfter: i < 10 ? noon : noon + day }),
        );
        for (const record of records) await store.appendIssued([record]);
        const newestFirst = records.toReversed();

        const all = await pages((after) => store.issued.list({ spiffeId, limit: 4, ...(after === undefined ? {} : { after }) }));
        assert.deepEqual(all, newestFirst);
        const one = await store.issued.list({ spiffeId, instance: 'pod-1', limit: 100 });
        assert.deepEqual(one, { items: newestFirst.filter(({ instance }) => instance === 'pod-1'), next: undefined });
        const alive = await store.issued.list({ spiffeId, unexpiredAt: noon, limit: 100 });
        assert.deepEqual(alive.items, newestFirst.slice(0, 15));
        const exact = await store.issued.list({ spiffeId, limit: 25 });
        assert.equal(exact.next, undefined, 'a full last page has no next one');
        const everything = await store.issued.list({ limit: 25 });
        assert.deepEqual(everything.items, newestFirst, 'without a filter, too');
      });

      it('a page stays what it was when newer ones arrive', async () => {
        const spiffeId = 'spiffe://example.org/ns/pages/sa/moving';
        const records = Array.from({ length: 6 }, () => issuedRecord({ spiffeId }));
        await store.appendIssued(records);
        const first = await store.issued.list({ spiffeId, limit: 3 });
        await store.appendIssued([issuedRecord({ spiffeId })]);
        assert.ok(first.next !== undefined);
        const second = await store.issued.list({ spiffeId, limit: 3, after: first.next });
        assert.deepEqual([...first.items, ...second.items], records.toReversed());
      });

      it('refuses a cursor that it did not give and a page of absurd size', async () => {
        await assert.rejects(store.issued.list({ limit: 10, after: 'x; DROP TABLE issued' }), code('INVALID_ARGUMENT'));
        for (const limit of [0, -1, 1.5, 1_000_000, Number.NaN]) {
          await assert.rejects(store.issued.list({ limit }), code('INVALID_ARGUMENT'));
        }
      });
    });

    describe('bindings', () => {
      it('puts, replaces, lists in pages and deletes', async () => {
        const bindings = ['pod-1', 'pod-2', 'pod-3'].map((instance) => bindingOf({ instance }));
        for (const binding of bindings) await store.bindings.put(binding);
        assert.deepEqual(await store.bindings.get(web, 'pod-2'), bindings[1]);
        const listed = await pages((after) => store.bindings.list(2, after));
        assert.deepEqual(listed, bindings);

        const replaced = bindingOf({ instance: 'pod-2', keyFile: '/run/keys/def.key' });
        await store.bindings.put(replaced);
        assert.deepEqual(await store.bindings.get(web, 'pod-2'), replaced);
        assert.equal(await store.bindings.delete(web, 'pod-2'), true);
        assert.equal(await store.bindings.delete(web, 'pod-2'), false);
        assert.equal(await store.bindings.get(web, 'pod-2'), undefined);
        await reopen();
        assert.deepEqual(await store.bindings.get(web, 'pod-3'), bindings[2]);
      });
    });

    describe('trust documents', () => {
      it('are written only over the epoch that was read', async () => {
        assert.equal(await store.trust.read('ca/one'), undefined);
        assert.equal(await store.trust.compareAndSet('ca/one', 7, Buffer.from('no')), false);
        assert.equal(await store.trust.compareAndSet('ca/one', 0, Buffer.from('a')), true);
        assert.equal(await store.trust.compareAndSet('ca/one', 0, Buffer.from('b')), false, 'made only once');
        const first = await store.trust.read('ca/one');
        assert.deepEqual(first?.value, Buffer.from('a'));
        assert.equal(await store.trust.compareAndSet('ca/one', first.epoch, Buffer.from('c')), true);
        assert.equal(await store.trust.compareAndSet('ca/one', first.epoch, Buffer.from('d')), false, 'the loser is told');
        assert.deepEqual((await store.trust.read('ca/one'))?.value, Buffer.from('c'));
      });

      it('have one winner among many', async () => {
        const tries = Array.from({ length: 20 }, (_, i) => store.trust.compareAndSet('ca/race', 0, Buffer.from([i])));
        assert.equal((await Promise.all(tries)).filter((won) => won).length, 1);
      });
    });

    it('keeps denials until they are lifted', async () => {
      const denial = { spiffeId: web, at: noon, reason: 'stolen laptop' };
      await store.denials.put(denial);
      await reopen();
      assert.deepEqual(await store.denials.list(), [denial]);
      assert.equal(await store.denials.delete(web), true);
      assert.equal(await store.denials.delete(web), false);
      assert.deepEqual(await store.denials.list(), []);
    });

    it('appends to the audit and lists it newest first', async () => {
      const entries = Array.from({ length: 5 }, (_, i) => ({ at: noon + i, actor: 'cli', action: 'deny', subject: web, detail: `n${i}` }));
      await Promise.all(entries.map((entry) => store.audit.append([entry])));
      assert.deepEqual(await pages((after) => store.audit.list(2, after)), entries.toReversed());
    });

    it('never lowers an acknowledged generation', async () => {
      const ack = (generation: number, instance = 'pod-1') => ({ spiffeId: web, instance, generation, at: noon });
      assert.equal(await store.acknowledged(web, 'pod-1'), undefined);
      await store.acknowledge([ack(3), ack(5), ack(1, 'pod-2'), ack(4)]);
      assert.equal(await store.acknowledged(web, 'pod-1'), 5);
      await store.acknowledge([ack(2)]);
      await reopen();
      assert.equal(await store.acknowledged(web, 'pod-1'), 5);
      assert.equal(await store.acknowledged(web, 'pod-2'), 1);
    });

    describe('changes', () => {
      it('come in order, those of the past first, and go on as they happen', async () => {
        const mark = (await take(store.changes(0, never), 1))[0]?.sequence ?? 0;
        assert.ok(mark > 0, 'earlier tests left changes');
        await store.bindings.put(bindingOf({ instance: 'changes' }));
        const [put, start] = (await drain(store)).slice(-2);
        assert.ok(start);
        assert.deepEqual([put?.topic, put?.key], ['bindings', `${web} changes`]);

        const following = take(store.changes(start.sequence, never), 3);
        await store.denials.put({ spiffeId: db, at: noon, reason: 'test' });
        await store.trust.compareAndSet('changes', 0, Buffer.from('x'));
        await store.trust.compareAndSet('changes', 0, Buffer.from('loses, and changes nothing'));
        await store.bindings.delete(web, 'changes');
        const seen = await following;
        assert.deepEqual(
          seen.map(({ topic, key }) => [topic, key]),
          [
            ['denials', db],
            ['trust', 'changes'],
            ['bindings', `${web} changes`],
          ],
        );
        assert.ok(seen.every(({ sequence }, i) => sequence > (seen[i - 1]?.sequence ?? start.sequence)));
        await store.denials.delete(db);
      });

      it('end when the signal aborts, also while waiting', async () => {
        const stop = new AbortController();
        const last = (await drain(store)).at(-1)?.sequence ?? 0;
        const following = take(store.changes(last, stop.signal), 1);
        setImmediate(() => {
          stop.abort();
        });
        assert.deepEqual(await following, []);
      });
    });

    describe('leases', () => {
      it('of one name are held by one at a time, of two names side by side', async () => {
        let inside = 0;
        let most = 0;
        const work = async (): Promise<void> => {
          most = Math.max(most, ++inside);
          await new Promise((resolve) => setImmediate(resolve));
          inside--;
        };
        await Promise.all(Array.from({ length: 5 }, () => store.withLease('one', work, never)));
        assert.equal(most, 1);

        const both = Promise.withResolvers<string>();
        const waits = store.withLease('a', () => both.promise, never);
        await store.withLease(
          'b',
          async () => {
            both.resolve('freed by b');
            await waits;
          },
          never,
        );
        assert.equal(await waits, 'freed by b');
      });

      it('pass on what the work returns or throws, and are free afterwards', async () => {
        await assert.rejects(
          store.withLease('c', () => Promise.reject(new Error('mine')), never),
          /mine/,
        );
        assert.equal(await store.withLease('c', () => Promise.resolve(42), never), 42);
      });

      it('can be given up while waiting', async () => {
        const hold = Promise.withResolvers<undefined>();
        const held = store.withLease('d', () => hold.promise, never);
        const stop = new AbortController();
        let ran = false;
        const waiting = store.withLease(
          'd',
          () => {
            ran = true;
            return Promise.resolve();
          },
          stop.signal,
        );
        stop.abort();
        await assert.rejects(waiting, code('CANCELLED'));
        hold.resolve(undefined);
        await held;
        await store.withLease('d', () => Promise.resolve(), never);
        assert.equal(ran, false);
      });
    });

    describe('a store of its own', () => {
      it('prunes what ended, and only that', async (t) => {
        const elsewhere = await backend.make();
        let own = await elsewhere.open();
        t.after(async () => {
          await own.close();
          await elsewhere.dispose();
        });
        const old = Array.from({ length: 1200 }, (_, i) =>
          issuedRecord({ instance: i < 600 ? 'gone' : 'stays', notAfter: noon - 10 * day - i }),
        );
        const young = [issuedRecord({ instance: 'stays' }), issuedRecord({ instance: 'new', notAfter: noon - day })];
        await own.appendIssued([...old, ...young]);
        await own.acknowledge(['gone', 'stays'].map((instance) => ({ spiffeId: web, instance, generation: 2, at: noon - 20 * day })));
        await own.audit.append([{ at: noon - 100 * day, actor: 'cli', action: 'deny', subject: web, detail: '' }]);
        assert.equal(await own.issued.countUnexpired(noon - 5 * day), 2);

        assert.equal(await own.prune(noon - 5 * day), 1200);
        assert.equal(await own.prune(noon - 5 * day), 0);
        for (const again of [false, true]) {
          if (again) {
            await own.close();
            own = await elsewhere.open();
          }
          assert.deepEqual((await own.issued.list({ limit: 10 })).items, young.toReversed());
          assert.equal(await own.issued.get(old[0]?.serial ?? ''), undefined);
          assert.equal(await own.issued.any(web, 'gone'), false);
          assert.equal(await own.issued.any(web, 'stays'), true);
          assert.equal(await own.acknowledged(web, 'gone'), undefined);
          assert.equal(await own.acknowledged(web, 'stays'), 2);
          assert.equal(await own.issued.countUnexpired(noon), 1);
          assert.equal((await own.audit.list(10)).items.length, 1, 'the audit is kept apart');
        }
        const next = issuedRecord();
        await own.appendIssued([next]);
        assert.deepEqual(await own.issued.get(next.serial), next, 'and goes on');
      });

      it('finishes what was begun when it closes, and refuses what comes after', async (t) => {
        const elsewhere = await backend.make();
        t.after(() => elsewhere.dispose());
        const own = await elsewhere.open();
        const record = issuedRecord();
        const appended = own.appendIssued([record]);
        const following = take(own.changes(0, never), 1);
        await own.close();
        await appended;
        assert.deepEqual(await following, [], 'followers end');
        await assert.rejects(own.appendIssued([issuedRecord()]));
        await assert.rejects(own.issued.get(record.serial));
        await assert.doesNotReject(own.close());
        const again = await elsewhere.open();
        assert.deepEqual(await again.issued.get(record.serial), record);
        await again.close();
      });
    });

    if (backend.shared) {
      it('two handles see each other’s writes, and one wins a race', async () => {
        const other = await location.open();
        try {
          const record = issuedRecord();
          await other.appendIssued([record]);
          assert.deepEqual(await store.issued.get(record.serial), record);
          await assert.rejects(store.appendIssued([record]));
          const won = await Promise.all([store, other].map((one) => one.trust.compareAndSet('two-handles', 0, Buffer.from('x'))));
          assert.deepEqual(won.sort(), [false, true]);
          const last = (await drain(store)).at(-1)?.sequence ?? 0;
          const following = take(other.changes(last, never), 1);
          await store.denials.put({ spiffeId: db, at: noon, reason: 'test' });
          assert.deepEqual(
            (await following).map(({ topic }) => topic),
            ['denials'],
          );
          await other.denials.delete(db);
        } finally {
          await other.close();
        }
      });
    } else {
      it('a second handle is refused with advice, and the first goes on', async () => {
        await assert.rejects(
          location.open(),
          (error) => error instanceof SignetError && error.code === 'STORE_LOCKED' && /Stop the other/.test(error.message),
        );
        const record = issuedRecord();
        await store.appendIssued([record]);
        assert.deepEqual(await store.issued.get(record.serial), record);
        await assert.rejects(location.open(), code('STORE_LOCKED'), 'still');
      });
    }
  });
}

/** All changes so far: reads until one of its own making, the last of them, arrives. */
async function drain(store: Store): Promise<Change[]> {
  const name = `drain-${randomBytes(8).toString('hex')}`;
  await store.trust.compareAndSet(name, 0, Buffer.from('x'));
  const seen: Change[] = [];
  for await (const change of store.changes(0, new AbortController().signal)) {
    seen.push(change);
    if (change.key === name) break;
  }
  return seen;
}
