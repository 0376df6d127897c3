import { setTimeout as sleep } from 'node:timers/promises';

/** Thrown by a probe when waiting longer is of no use. */
export class Hopeless extends Error {}

/**
 * Asks `probe` until it gives something other than undefined; its errors count as "not yet". The deadline is for what never
 * happens, generous because the machine may be busy: it says nothing of how fast things should be.
 */
export async function eventually<T>(
  what: string,
  probe: () => Promise<T | undefined> | T | undefined,
  ms = 30_000,
  everyMs = 50,
): Promise<T> {
  const end = Date.now() + ms;
  let last: unknown;
  for (;;) {
    try {
      const value = await probe();
      if (value !== undefined) return value;
      last = undefined;
    } catch (error) {
      if (error instanceof Hopeless) throw error;
      last = error;
    }
    if (Date.now() > end) throw new Error(`${what}: not within ${String(ms)} ms`, last === undefined ? undefined : { cause: last });
    await sleep(everyMs);
  }
}
