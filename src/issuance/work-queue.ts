export interface WorkQueue {
  /** Runs `work` as soon as fewer than the limit are under way: what is urgent first, otherwise first come first served. */
  run<T>(work: () => Promise<T>, urgent?: boolean): Promise<T>;
  readonly waiting: number;
}

/** Bounds how much goes on at once. What waits is bounded by its callers: here, one entry per subscribed instance. */
export function createWorkQueue(concurrency: number): WorkQueue {
  const urgentOnes = createLine();
  const others = createLine();
  let running = 0;

  function next(): void {
    const start = urgentOnes.shift() ?? others.shift();
    if (start) start();
    else running--;
  }

  return {
    async run(work, urgent = false) {
      if (running < concurrency) running++;
      else
        await new Promise<void>((resolve) => {
          (urgent ? urgentOnes : others).push(resolve);
        });
      try {
        return await work();
      } finally {
        next();
      }
    },
    get waiting() {
      return urgentOnes.length + others.length;
    },
  };
}

interface Line {
  push(start: () => void): void;
  shift(): (() => void) | undefined;
  readonly length: number;
}

/** Array.shift moves all that remain; cutting the served half off now and then does so once per element. */
function createLine(): Line {
  let waiting: (() => void)[] = [];
  let head = 0;
  return {
    push(start) {
      waiting.push(start);
    },
    shift() {
      const start = waiting[head];
      if (!start) return undefined;
      head++;
      if (head * 2 > waiting.length) {
        waiting = waiting.slice(head);
        head = 0;
      }
      return start;
    },
    get length() {
      return waiting.length - head;
    },
  };
}
