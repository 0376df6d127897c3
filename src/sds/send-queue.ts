/** Something that may have news to send. */
export interface Sender {
  /** Sends what there is, if it can be sent now. Never throws. */
  flush(): void;
  /** Whether it is in the queue. The queue's own. */
  queued: boolean;
}

export interface SendQueue {
  add(sender: Sender): void;
}

/**
 * Between two turns of the event loop no more than this many streams are written to: some 10 ms. With fewer, the
 * acknowledgements of the first hold up the news of the others.
 */
const perTurn = 1000;

/**
 * A change of trust concerns every stream at once. They are served in order, a share in each turn of the loop, so that
 * requests are answered and sockets written in between; what changes again meanwhile is sent once, as it is by then.
 */
export function createSendQueue(): SendQueue {
  let waiting: Sender[] = [];
  let next = 0;
  let scheduled = false;

  function run(): void {
    const end = Math.min(next + perTurn, waiting.length);
    while (next < end) {
      const sender = waiting[next++];
      if (!sender) continue;
      sender.queued = false;
      sender.flush();
    }
    scheduled = next < waiting.length;
    if (scheduled) {
      setImmediate(run);
      return;
    }
    waiting = [];
    next = 0;
  }

  return {
    add(sender) {
      if (sender.queued) return;
      sender.queued = true;
      waiting.push(sender);
      if (scheduled) return;
      scheduled = true;
      setImmediate(run);
    },
  };
}
