import type { Log } from '../base/log.ts';

export interface Listeners {
  readonly add: (listener: () => void) => () => void;
  /** Calls them all; what one throws is logged and keeps none of the others from hearing. */
  readonly notify: () => void;
}

export function createListeners(log: Log): Listeners {
  const listeners = new Set<() => void>();
  return {
    add(listener) {
      // Wrapped, so that the same function added twice is two, and each is taken away by its own.
      const own = (): void => {
        listener();
      };
      listeners.add(own);
      return () => {
        listeners.delete(own);
      };
    },
    notify() {
      for (const listener of [...listeners]) {
        try {
          listener();
        } catch (error) {
          log.error({ err: error }, 'a listener of the CA failed');
        }
      }
    },
  };
}
