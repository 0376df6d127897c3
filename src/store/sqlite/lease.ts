import { SignetError } from '../../base/errors.ts';

export interface Leases {
  with<T>(name: string, fn: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T>;
  /** Aborts what holds or waits for a lease. */
  close(): void;
}

/** One process holds the database, so a lease is a queue per name: first come, first served. */
export function createLeases(): Leases {
  const queues = new Map<string, (() => void)[]>();
  const closing = new AbortController();

  function acquire(name: string, signal: AbortSignal): Promise<void> {
    const queue = queues.get(name);
    if (!queue) {
      queues.set(name, []);
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        queue.splice(queue.indexOf(granted), 1);
        reject(SignetError.from(signal.reason));
      };
      const granted = (): void => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
      signal.addEventListener('abort', onAbort, { once: true });
      queue.push(granted);
    });
  }

  function release(name: string): void {
    const next = queues.get(name)?.shift();
    if (next) next();
    else queues.delete(name);
  }

  return {
    async with(name, fn, signal) {
      const either = AbortSignal.any([signal, closing.signal]);
      if (either.aborted) throw SignetError.from(either.reason);
      await acquire(name, either);
      try {
        return await fn(either);
      } finally {
        release(name);
      }
    },
    close() {
      closing.abort(new SignetError('CANCELLED', 'the store is closed'));
    },
  };
}
