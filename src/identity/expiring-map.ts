import { createRecentMap } from '../base/recent-map.ts';

/** A bounded map that forgets what was not used for long, and each entry at its own end (ms since the epoch). */
export interface ExpiringMap<T> {
  get(key: string, now: number): T | undefined;
  set(key: string, value: T, ends: number): void;
  clear(): void;
}

/** `capacity` as in createRecentMap. */
export function createExpiringMap<T>(capacity: number): ExpiringMap<T> {
  const entries = createRecentMap<{ readonly value: T; readonly ends: number }>(capacity);
  return {
    get(key, now) {
      const entry = entries.get(key);
      if (!entry) return undefined;
      if (entry.ends > now) return entry.value;
      entries.delete(key);
      return undefined;
    },
    set(key, value, ends) {
      entries.set(key, { value, ends });
    },
    clear: entries.clear,
  };
}
