import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { describe, it } from 'node:test';
import { createGroupCommit } from '../../../src/store/sqlite/group-commit.ts';

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
    const commits = createGroupCommit(db);
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
    const commits = createGroupCommit(db);
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
    const commits = createGroupCommit(db);
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
    assert.deepEqual(log.slice(0, 2), ['committed a', 'committed b']);
    assert.deepEqual(log.slice(2).sort(), ['rejected', 'resolved a', 'resolved b']);
  });

  it('fails everybody when the commit itself fails, and the next turn works again', async () => {
    const { db, numbers } = open();
    db.exec(
      'CREATE TABLE parent (id INTEGER PRIMARY KEY); CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)',
    );
    db.exec('PRAGMA foreign_keys = ON');
    const insert = db.prepare('INSERT INTO t VALUES (?)');
    const orphan = db.prepare('INSERT INTO child VALUES (7)');
    const commits = createGroupCommit(db);
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
    const commits = createGroupCommit(db);
    const pending = commits.write(() => insert.run(1));
    commits.close();
    assert.deepEqual(numbers(), [1]);
    await pending;
    await assert.rejects(commits.write(() => insert.run(2)));
    assert.deepEqual(numbers(), [1]);
  });
});
