import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { createWorkList } from '../../../src/kubernetes/work-list.ts';

const retry = { baseMs: 1, maxMs: 2 };

describe('a list of work', () => {
  it('looks at each key, one at a time, and again if it changed meanwhile', async () => {
    const stop = new AbortController();
    const open = new Map<string, () => void>();
    const looked: string[] = [];
    const list = createWorkList(
      {
        look: (key) => {
          assert.ok(!open.has(key), 'two looks at one key');
          looked.push(key);
          return new Promise<void>((resolve) => {
            open.set(key, () => {
              open.delete(key);
              resolve();
            });
          });
        },
        failed: () => undefined,
        atOnce: 2,
        retry,
        random: () => 0,
      },
      stop.signal,
    );
    for (const key of ['a', 'b', 'c', 'a', 'a']) list.touch(key);
    assert.deepEqual(looked, ['a', 'b'], 'two at once');
    open.get('a')?.();
    while (looked.length < 3) await turn();
    assert.deepEqual(looked[2], 'c');
    open.get('b')?.();
    open.get('c')?.();
    while (looked.length < 4) await turn();
    assert.deepEqual(looked, ['a', 'b', 'c', 'a'], 'the three touches of a while it was looked at are one more look');
    open.get('a')?.();
    stop.abort();
    await list.settled();
  });

  it('tries again what failed, until it works, and nothing after the end', async () => {
    const stop = new AbortController();
    const failed: string[] = [];
    let tries = 0;
    const done = Promise.withResolvers<undefined>();
    const list = createWorkList(
      {
        look: () => {
          if (++tries < 3) return Promise.reject(new Error('not yet'));
          done.resolve(undefined);
          return Promise.resolve();
        },
        failed: (key) => failed.push(key),
        atOnce: 1,
        retry,
        random: () => 0,
      },
      stop.signal,
    );
    list.touch('a');
    await done.promise;
    assert.deepEqual(failed, ['a', 'a']);
    stop.abort();
    await list.settled();
    list.touch('a');
    await turn();
    assert.equal(tries, 3);
  });
});
