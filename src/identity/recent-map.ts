/** A bounded map that forgets what was used longest ago, and each entry at its own end (ms since the epoch). */
export interface RecentMap<T> {
  get(key: string, now: number): T | undefined;
  set(key: string, value: T, ends: number): void;
  delete(key: string): void;
  clear(): void;
  readonly size: number;
}

export function createRecentMap<T>(capacity: number): RecentMap<T> {
  // A Map iterates in the order of insertion, so that moving an entry to the back at each use keeps the oldest in front.
  const entries = new Map<string, { readonly value: T; readonly ends: number }>();
  return {
    get(key, now) {
      const entry = entries.get(key);
      if (!entry) return undefined;
      entries.delete(key);
      if (entry.ends <= now) return undefined;
      entries.set(key, entry);
      return entry.value;
    },
    set(key, value, ends) {
      entries.delete(key);
      if (entries.size >= capacity) {
        const [oldest] = entries.keys();
        if (oldest !== undefined) entries.delete(oldest);
      }
      if (capacity > 0) entries.set(key, { value, ends });
    },
    delete: (key) => void entries.delete(key),
    clear: () => {
      entries.clear();
    },
    get size() {
      return entries.size;
    },
  };
}
