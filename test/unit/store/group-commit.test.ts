import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { describe, it } from 'node:test';
import { SignetError } from '../../../src/base/errors.ts';
import { createGroupCommit } from '../../../src/store/sqlite/group-commit.ts';
import type { WalSync } from '../../../src/store/sqlite/wal-sync.ts';

/** A log on a disk that is never slow and never fails. */
const syncsAtOnce: WalSync = { sync: () => Promise.resolve(), close: () => undefined };

function open() {
  const db = new DatabaseSync(':memory:');
  db.exec('CREATE TABLE t (n INTEGER PRIMARY KEY) STRICT');
  const insert = db.prepare('INSERT INTO t VALUES (?)');
  const numbers = (): unknown[] =>
    db
      .prepare('SELECT n FROM t ORDER BY n')
      .all()
      .map((row) => row['n']);
  return { db, insert, numbers };
}

describe('group commit', () => {
  it('writes what one turn of the loop brings in one transaction', async () => {
    const { db, insert, numbers } = open();
    const commits = createGroupCommit(db, syncsAtOnce);
    const inTransaction: boolean[] = [];
    const first = commits.write(() => {
      insert.run(1);
      inTransaction.push(db.isTransaction);
    });
    const second = commits.write(() => {
      // It sees what the first one wrote: both are in the same, still uncommitted, transaction.
      inTransaction.push(db.isTransaction);
      return numbers();
    });
    assert.deepEqual(numbers(), [], 'nothing is written before the turn ends');
    assert.deepEqual(await second, [1]);
    await first;
    assert.deepEqual(inTransaction, [true, true]);
    assert.equal(db.isTransaction, false);
  });

  it('lets only the caller fail whose row is bad, and keeps nothing of it', async () => {
    const { db, insert, numbers } = open();
    const commits = createGroupCommit(db, syncsAtOnce);
    const settled = await Promise.allSettled([
      commits.write(() => insert.run(1)),
      commits.write(() => {
        insert.run(2);
        insert.run(1);
      }),
      commits.write(() => {
        throw new Error('not even SQL');
      }),
      commits.write(() => insert.run(3)),
    ]);
    assert.deepEqual(
      settled.map(({ status }) => status),
      ['fulfilled', 'rejected', 'rejected', 'fulfilled'],
    );
    assert.deepEqual(numbers(), [1, 3]);
    await commits.write(() => insert.run(2));
    assert.deepEqual(numbers(), [1, 2, 3]);
  });

  it('runs what must follow a commit once, before anybody hears of it, and never without one', async () => {
    const { db, insert } = open();
    const commits = createGroupCommit(db, syncsAtOnce);
    const log: string[] = [];
    const good = commits
      .write(
        () => {
          insert.run(1);
          return 'a';
        },
        (result) => log.push(`committed ${result}`),
      )
      .then(() => log.push('resolved a'));
    const bad = commits
      .write(
        () => insert.run(1),
        () => log.push('never'),
      )
      .catch(() => log.push('rejected'));
    const last = commits
      .write(
        () => {
          insert.run(2);
          return 'b';
        },
        (result) => log.push(`committed ${result}`),
      )
      .then(() => log.push('resolved b'));
    await Promise.all([good, bad, last]);
    assert.deepEqual(
      log.filter((entry) => entry !== 'rejected'),
      ['committed a', 'committed b', 'resolved a', 'resolved b'],
    );
    assert.equal(log.length, 5);
  });

  it('fails everybody when the commit itself fails, and the next turn works again', async () => {
    const { db, numbers } = open();
    db.exec(
      'CREATE TABLE parent (id INTEGER PRIMARY KEY); CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)',
    );
    db.exec('PRAGMA foreign_keys = ON');
    const insert = db.prepare('INSERT INTO t VALUES (?)');
    const orphan = db.prepare('INSERT INTO child VALUES (7)');
    const commits = createGroupCommit(db, syncsAtOnce);
    const settled = await Promise.allSettled([commits.write(() => insert.run(1)), commits.write(() => orphan.run())]);
    assert.deepEqual(
      settled.map(({ status }) => status),
      ['rejected', 'rejected'],
    );
    assert.deepEqual(numbers(), []);
    await commits.write(() => insert.run(1));
    assert.deepEqual(numbers(), [1]);
  });

  it('flushes when closed, and takes nothing more', async () => {
    const { db, insert, numbers } = open();
    const commits = createGroupCommit(db, syncsAtOnce);
    const pending = commits.write(() => insert.run(1));
    commits.close();
    assert.deepEqual(numbers(), [1]);
    await pending;
    await assert.rejects(commits.write(() => insert.run(2)));
    assert.deepEqual(numbers(), [1]);
  });

  it('tells nobody before the sync, and gathers what comes meanwhile into the next commit', async () => {
    const { db, insert, numbers } = open();
    const syncs: (() => void)[] = [];
    const commits = createGroupCommit(db, {
      sync: () =>
        new Promise((resolve) => {
          syncs.push(resolve);
        }),
      close: () => undefined,
    });
    const told: number[] = [];
    const write = (n: number): Promise<void> => commits.write(() => insert.run(n)).then(() => void told.push(n));
    const first = write(1);
    await new Promise(setImmediate);
    const others = [write(2), write(3)];
    await new Promise(setImmediate);
    await new Promise(setImmediate);
    assert.deepEqual(numbers(), [1], 'the next batch waits for the sync under way');
    assert.deepEqual(told, []);
    syncs[0]?.();
    await first;
    assert.deepEqual(told, [1]);
    await new Promise(setImmediate);
    assert.equal(syncs.length, 2, 'one sync for both of the others');
    syncs[1]?.();
    await Promise.all(others);
    assert.deepEqual(numbers(), [1, 2, 3]);
  });

  it('after a failed sync refuses everything: nobody knows what is on the disk', async () => {
    const { db, insert } = open();
    const commits = createGroupCommit(db, { sync: () => Promise.reject(new Error('EIO')), close: () => undefined });
    const refused = (error: unknown) => error instanceof SignetError && error.code === 'INTERNAL';
    await assert.rejects(
      commits.write(() => insert.run(1)),
      refused,
    );
    await assert.rejects(
      commits.write(() => insert.run(2)),
      refused,
    );
  });

  it('closed during a sync, it syncs at once and tells everybody', async () => {
    const { db, insert, numbers } = open();
    let closedLog = false;
    const commits = createGroupCommit(db, {
      sync: () => new Promise<never>(() => undefined),
      close: () => {
        closedLog = true;
      },
    });
    const first = commits.write(() => insert.run(1));
    await new Promise(setImmediate);
    const second = commits.write(() => insert.run(2));
    commits.close();
    assert.equal(closedLog, true);
    await Promise.all([first, second]);
    assert.deepEqual(numbers(), [1, 2]);
  });
});
