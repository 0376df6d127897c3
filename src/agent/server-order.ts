import { backoffMs } from '../base/backoff.ts';
import type { Random } from '../base/clock.ts';

/** Which of several servers to ask: the first that isn't known to be away. */
export interface ServerOrder {
  /**
   * The first server that may be asked now and isn't in `tried`. If all are being avoided and none was tried, the one
   * that is soonest due: somebody has to find out that they are back.
   */
  next(now: number, tried: ReadonlySet<number>): number | undefined;
  failed(server: number, now: number): void;
  answered(server: number): void;
}

/** The longest time for which one that is back may go unnoticed by those who have another to ask. */
const avoidance = { baseMs: 1000, maxMs: 30_000 };

export function createServerOrder(count: number, random: Random): ServerOrder {
  const servers = Array.from({ length: count }, () => ({ failures: 0, avoidedUntil: 0 }));
  return {
    next(now, tried) {
      const free = servers.findIndex(({ avoidedUntil }, i) => avoidedUntil <= now && !tried.has(i));
      if (free >= 0) return free;
      if (tried.size > 0) return undefined;
      const soonest = Math.min(...servers.map(({ avoidedUntil }) => avoidedUntil));
      return servers.findIndex(({ avoidedUntil }) => avoidedUntil === soonest);
    },
    failed(server, now) {
      const state = servers[server];
      if (!state) return;
      // Many workloads fail at the same moment, which is one failure.
      if (state.avoidedUntil > now) return;
      state.avoidedUntil = now + backoffMs(state.failures++, avoidance, random);
    },
    answered(server) {
      const state = servers[server];
      if (!state) return;
      state.failures = 0;
      state.avoidedUntil = 0;
    },
  };
}
