import { setTimeout as sleep } from 'node:timers/promises';

/** Resolves after `ms`, or as soon as the signal aborts: the caller looks which. Never rejects. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    // setTimeout takes 0 to 2^31-1; whoever wants longer looks again.
    await sleep(Math.min(Math.max(0, ms), 2_147_483_647), undefined, { signal });
  } catch {
    // The one reason there is: aborted.
  }
}
