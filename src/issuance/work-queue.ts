export interface WorkQueue {
  /** Runs `work` as soon as fewer than the limit are under way, first come first served. */
  run<T>(work: () => Promise<T>): Promise<T>;
  readonly waiting: number;
}

/** Bounds how much goes on at once. What waits is bounded by its callers: here, one entry per subscribed instance. */
export function createWorkQueue(concurrency: number): WorkQueue {
  let running = 0;
  let waiting: (() => void)[] = [];
  let head = 0;

  function next(): void {
    const start = waiting[head];
    if (!start) {
      running--;
      return;
    }
    head++;
    // Array.shift moves all that remain; cutting the served half off now and then does so once per element.
    if (head * 2 > waiting.length) {
      waiting = waiting.slice(head);
      head = 0;
    }
    start();
  }

  return {
    async run(work) {
      if (running < concurrency) running++;
      else await new Promise<void>((resolve) => waiting.push(resolve));
      try {
        return await work();
      } finally {
        next();
      }
    },
    get waiting() {
      return waiting.length - head;
    },
  };
}
