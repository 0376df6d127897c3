export interface KeyedQueue {
  /** Runs `work` once whatever was queued under this key before has settled. */
  run<T>(key: string, work: () => Promise<T>): Promise<T>;
}

/** One at a time for each key, any number side by side for different ones. */
export function createKeyedQueue(): KeyedQueue {
  const tails = new Map<string, Promise<unknown>>();
  return {
    async run(key, work) {
      const before = tails.get(key);
      const mine = before ? before.then(work, work) : work();
      tails.set(key, mine);
      try {
        return await mine;
      } finally {
        if (tails.get(key) === mine) tails.delete(key);
      }
    },
  };
}
