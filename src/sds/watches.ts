import type { SendQueue, Sender } from './send-queue.ts';
import type { SecretFeed } from './secret-source.ts';

export interface Watches {
  /** `sender` is queued after each change of the feed. Twice is once. */
  add(feed: SecretFeed, sender: Sender): void;
  remove(feed: SecretFeed, sender: Sender): void;
  readonly size: number;
}

interface Watch {
  readonly senders: Set<Sender>;
  stop: () => void;
}

/** One subscription to each feed, however many streams watch it: ten thousand streams on a bundle cost it one listener. */
export function createWatches(queue: SendQueue): Watches {
  const watches = new Map<SecretFeed, Watch>();

  return {
    add(feed, sender) {
      const known = watches.get(feed);
      if (known) {
        known.senders.add(sender);
        return;
      }
      const watch: Watch = { senders: new Set([sender]), stop: () => undefined };
      watch.stop = feed.subscribe(() => {
        for (const one of watch.senders) queue.add(one);
      });
      watches.set(feed, watch);
    },
    remove(feed, sender) {
      const watch = watches.get(feed);
      if (!watch?.senders.delete(sender) || watch.senders.size > 0) return;
      watches.delete(feed);
      watch.stop();
    },
    get size() {
      return watches.size;
    },
  };
}
