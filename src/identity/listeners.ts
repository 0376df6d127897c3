/** Who wants to know of a change. One listener's fault does not keep the news from the others. */
export interface Listeners {
  add(listener: () => void): () => void;
  notify(): void;
}

export function createListeners(onError: (error: unknown) => void): Listeners {
  const listeners = new Set<{ readonly call: () => void }>();
  return {
    add(call) {
      const entry = { call };
      listeners.add(entry);
      return () => void listeners.delete(entry);
    },
    notify() {
      for (const listener of [...listeners]) {
        try {
          listener.call();
        } catch (error) {
          onError(error);
        }
      }
    },
  };
}
