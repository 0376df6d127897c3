import type { Clock } from '../base/clock.ts';
import { deadlineSignal } from '../base/deadline.ts';
import type { DeadlineHeap } from '../base/deadline-heap.ts';
import type { Log } from '../base/log.ts';
import type { Bindings } from '../issuance/bindings.ts';
import type { Store } from '../store/store.ts';

const firstAfterMs = 60_000;
const everyMs = 3_600_000;
const timeoutMs = 60_000;

export interface Upkeep {
  close(): void;
}

/** Once an hour: drops records of certificates that ended long ago, and bindings that nobody uses. */
export function startUpkeep(parts: {
  readonly heap: DeadlineHeap;
  readonly clock: Clock;
  readonly log: Log;
  readonly store: Pick<Store, 'prune'>;
  readonly bindings: Pick<Bindings, 'pruneUnused'>;
  readonly retainExpiredMs: number;
}): Upkeep {
  const { heap, clock, log } = parts;
  const closing = new AbortController();
  let cancel = heap.at(clock.now() + firstAfterMs, run);

  async function once(): Promise<void> {
    const certificates = await parts.store.prune(clock.now() - parts.retainExpiredMs);
    const bindings = await parts.bindings.pruneUnused(deadlineSignal(timeoutMs, closing.signal));
    if (certificates > 0 || bindings > 0) log.info({ certificates, bindings }, 'dropped what ended long ago');
  }

  function run(): void {
    cancel = heap.at(clock.now() + everyMs, run);
    once().catch((error: unknown) => {
      log.warn({ err: error }, 'dropping old records failed; the next try is in an hour');
    });
  }

  return {
    close() {
      cancel();
      closing.abort();
    },
  };
}
