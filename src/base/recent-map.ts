/** A map of at most `capacity` entries: of those that were used last, half of that number is always there. */
export interface RecentMap<T extends object | true> {
  get(key: string): T | undefined;
  set(key: string, value: T): void;
  delete(key: string): void;
  clear(): void;
  readonly size: number;
}

/**
 * Two maps, and the older one is dropped when the newer one is half of the whole. Not one map in the order of use: V8
 * leaves a hole where an entry was deleted and steps over the holes to find the oldest, so that a full map of 10,000
 * takes 10 us to make room for one. A capacity below 2 holds nothing.
 */
export function createRecentMap<T extends object | true>(capacity: number): RecentMap<T> {
  const half = Math.floor(capacity / 2);
  let newer = new Map<string, T>();
  let older = new Map<string, T>();

  function set(key: string, value: T): void {
    if (half === 0) return;
    older.delete(key);
    if (newer.size === half && !newer.has(key)) {
      older = newer;
      newer = new Map();
    }
    newer.set(key, value);
  }

  return {
    get(key) {
      const known = newer.get(key);
      if (known !== undefined) return known;
      const found = older.get(key);
      if (found !== undefined) set(key, found);
      return found;
    },
    set,
    delete(key) {
      newer.delete(key);
      older.delete(key);
    },
    clear() {
      newer.clear();
      older.clear();
    },
    get size() {
      return newer.size + older.size;
    },
  };
}
