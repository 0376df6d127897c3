import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSendQueue } from '../../../src/sds/send-queue.ts';
import type { Sender } from '../../../src/sds/send-queue.ts';

function senders(count: number, flushed: (index: number) => void): Sender[] {
  return Array.from({ length: count }, (_, index) => ({
    queued: false,
    flush() {
      flushed(index);
    },
  }));
}

test('ten thousand streams are served in their order, each once, and others have turns of the loop in between', async () => {
  const queue = createSendQueue();
  const served: number[] = [];
  let others = 0;
  let counting = setImmediate(function count() {
    others++;
    counting = setImmediate(count);
  });
  const all = new Promise<void>((resolve) => {
    for (const sender of senders(10_000, (index) => served.push(index) === 10_000 && setImmediate(resolve))) {
      queue.add(sender);
      queue.add(sender);
    }
  });
  await all;
  clearImmediate(counting);
  assert.deepEqual(
    served,
    Array.from({ length: 10_000 }, (_, index) => index),
  );
  assert.ok(others >= 10, `${String(others)} turns`);
});

test('a stream with more news while it is being served is served again', async () => {
  const queue = createSendQueue();
  let served = 0;
  const sender: Sender = {
    queued: false,
    flush() {
      if (++served === 1) queue.add(sender);
    },
  };
  queue.add(sender);
  while (served < 2) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(sender.queued, false);
});
