import type { Clock } from './clock.ts';

/** setTimeout beyond 2^31-1 ms fires at once; and a sleep this long at most also notices a jump of the clock. */
const longestSleepMs = 30_000;

interface Entry {
  readonly at: number;
  readonly order: number;
  run: () => void;
  cancelled: boolean;
}

const nothing = (): void => undefined;
/** Cancelled entries are swept out once they are more than this and more than the live ones. */
const leastSwept = 1024;

export interface DeadlineHeap {
  /** Calls `run` once the wall clock has reached `at`; returns how to cancel. */
  at(at: number, run: () => void): () => void;
  /** Runs what is due by now; the timer calls it, and tests on a simulated clock do. Returns the next deadline. */
  runDue(): number | undefined;
  readonly size: number;
  /** With the cancelled ones that are still in the way: never many more than twice `size`. */
  readonly entries: number;
  close(): void;
}

/**
 * All deadlines of a process in one binary heap under one timer: 100,000 of them cost 11 MB where timers cost 48.
 * Deadlines are wall-clock; the timer never sleeps longer than 30 s, so a clock set forward is noticed by then.
 */
export function createDeadlineHeap(clock: Clock, onError: (error: unknown) => void): DeadlineHeap {
  const heap: Entry[] = [];
  let order = 0;
  let live = 0;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  const before = (a: Entry, b: Entry): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);

  function push(entry: Entry): void {
    let i = heap.push(entry) - 1;
    while (i > 0) {
      const up = (i - 1) >> 1;
      const parent = heap[up];
      if (!parent || before(parent, entry)) break;
      heap[i] = parent;
      i = up;
    }
    heap[i] = entry;
  }

  function pop(): void {
    const last = heap.pop();
    if (!last || heap.length === 0) return;
    let i = 0;
    for (;;) {
      const left = 2 * i + 1;
      const l = heap[left];
      if (!l) break;
      const r = heap[left + 1];
      const [child, entry] = r && before(r, l) ? [left + 1, r] : [left, l];
      if (before(last, entry)) break;
      heap[i] = entry;
      i = child;
    }
    heap[i] = last;
  }

  /** Cancelled deadlines of clients that come and go would else pile up until their time, half an hour or days away. */
  function sweep(): void {
    const left = heap.filter((entry) => !entry.cancelled).sort((a, b) => (before(a, b) ? -1 : 1));
    heap.length = 0;
    // In order, an array is a heap.
    for (const entry of left) heap.push(entry);
  }

  function arm(): void {
    clearTimeout(timer);
    timer = undefined;
    const head = heap[0];
    if (!head || closed) return;
    timer = setTimeout(runDue, Math.max(0, Math.min(head.at - clock.now(), longestSleepMs)));
    timer.unref();
  }

  function runDue(): number | undefined {
    const now = clock.now();
    for (let head = heap[0]; head && (head.cancelled || head.at <= now); head = heap[0]) {
      pop();
      if (head.cancelled) continue;
      live--;
      head.cancelled = true;
      const { run } = head;
      head.run = nothing;
      try {
        run();
      } catch (error) {
        onError(error);
      }
    }
    arm();
    return heap[0]?.at;
  }

  return {
    at(at, run) {
      const entry: Entry = { at, order: order++, run, cancelled: false };
      push(entry);
      live++;
      if (heap[0] === entry) arm();
      return () => {
        if (entry.cancelled) return;
        entry.cancelled = true;
        // What it would have run may hold a whole stream, and whoever keeps `cancel` keeps the entry.
        entry.run = nothing;
        live--;
        // A cancelled head would wake us for nothing; deeper ones leave when they surface, or when they are many.
        if (heap[0] === entry) runDue();
        else if (heap.length - live > Math.max(leastSwept, live)) sweep();
      };
    },
    runDue,
    get size() {
      return live;
    },
    get entries() {
      return heap.length;
    },
    close() {
      closed = true;
      clearTimeout(timer);
      heap.length = 0;
      live = 0;
    },
  };
}

/** Resolves once the clock has reached `at`, or as soon as the signal aborts: the caller looks which. Never rejects. */
export function reached(heap: DeadlineHeap, at: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const done = (): void => {
      cancel();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const cancel = heap.at(at, done);
    signal.addEventListener('abort', done, { once: true });
  });
}
