import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { requestOnce, type MtlsTarget, type TlsIdentity } from './mtls-request.ts';

/** Of the load that every "0 failed" means. */
export interface LoadReport {
  readonly requests: number;
  readonly failed: number;
  /** Distinct leaf serials in the order in which they were first seen: one more than the rotations. */
  readonly serials: readonly string[];
  /** The longest time without a success, in ms, the ends of the run included. */
  readonly longestGapMs: number;
  readonly perSecond: number;
  /** When the first and the last request that failed were sent, in ms since the epoch. */
  readonly firstFailureAt: number | undefined;
  readonly lastFailureAt: number | undefined;
  /** The longest time for which the client itself was held up, in ms: what no server is to blame for. */
  readonly heldUpMs: number;
  /** How often each error came. */
  readonly errors: ReadonlyMap<string, number>;
}

/** One that is not stopped, because its test has failed, is stopped with `await using`: else its process goes on. */
export interface Load extends AsyncDisposable {
  /** Resolves once `count` distinct serials were seen by this client. */
  sawSerials(count: number, ms?: number): Promise<void>;
  readonly serials: readonly string[];
  readonly failed: number;
  /** As in the report, so far. */
  readonly firstFailureAt: number | undefined;
  readonly lastFailureAt: number | undefined;
  /** Stops asking, waits for what is under way, and reports. */
  stop(): Promise<LoadReport>;
}

const perSecond = 22;

/** Requests to an mTLS server over HTTP, as `startLoadOf` makes them. */
export function startLoad(target: MtlsTarget, identity: () => TlsIdentity): Load {
  return startLoadOf(() => requestOnce(target, identity()));
}

/**
 * Requests at a steady rate whatever becomes of the earlier ones, each on a new TCP and TLS connection without resumption,
 * never retried, with a deadline of 2 s; whatever goes wrong counts. The rate is kept on average: a loop that was held up
 * catches up. A request resolves with the serial of the certificate that it was shown.
 */
export function startLoadOf(request: () => Promise<string>): Load {
  const began = Date.now();
  const serials = new Set<string>();
  const errors = new Map<string, number>();
  const underWay = new Set<Promise<void>>();
  let [issued, failed, lastSuccess, longestGapMs] = [0, 0, began, 0];
  let [firstFailureAt, lastFailureAt]: [number | undefined, number | undefined] = [undefined, undefined];
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  const stopped = new AbortController();

  function success(serial: string): void {
    const now = Date.now();
    longestGapMs = Math.max(longestGapMs, now - lastSuccess);
    lastSuccess = now;
    serials.add(serial);
  }

  async function once(): Promise<void> {
    const sentAt = Date.now();
    try {
      success(await request());
    } catch (error) {
      failed++;
      firstFailureAt = Math.min(firstFailureAt ?? sentAt, sentAt);
      lastFailureAt = Math.max(lastFailureAt ?? sentAt, sentAt);
      const text = error instanceof Error ? `${error.message}${'code' in error ? ` (${String(error.code)})` : ''}` : String(error);
      errors.set(text, (errors.get(text) ?? 0) + 1);
    }
  }

  const loop = (async () => {
    while (!stopped.signal.aborted) {
      const due = Math.floor(((Date.now() - began) / 1000) * perSecond) + 1;
      for (; issued < due; issued++) {
        const work = once();
        underWay.add(work);
        void work.finally(() => underWay.delete(work));
      }
      await sleep(1000 / perSecond / 2);
    }
    await Promise.all(underWay);
  })();

  return {
    get serials() {
      return [...serials];
    },
    get failed() {
      return failed;
    },
    get firstFailureAt() {
      return firstFailureAt;
    },
    get lastFailureAt() {
      return lastFailureAt;
    },
    async sawSerials(count, ms = 120_000) {
      const end = Date.now() + ms;
      while (serials.size < count) {
        if (Date.now() > end) {
          const why = [...errors].map(([text, times]) => `${String(times)} x ${text}`).join('; ');
          throw new Error(`saw ${String(serials.size)} of ${String(count)} serials in ${String(ms)} ms; ${String(failed)} failed: ${why}`);
        }
        await sleep(50);
      }
    },
    async stop() {
      stopped.abort();
      delay.disable();
      const seconds = (Date.now() - began) / 1000;
      await loop;
      longestGapMs = Math.max(longestGapMs, Date.now() - lastSuccess);
      return {
        requests: issued,
        failed,
        serials: [...serials],
        longestGapMs,
        perSecond: issued / seconds,
        firstFailureAt,
        lastFailureAt,
        heldUpMs: Math.round(delay.max / 1e6),
        errors,
      };
    },
    async [Symbol.asyncDispose]() {
      stopped.abort();
      delay.disable();
      await loop;
    },
  };
}

/** One line for people. */
export function describeLoad(report: LoadReport): string {
  const why = [...report.errors].map(([text, times]) => `${String(times)} x ${text}`).join('; ');
  const { requests, serials, failed, longestGapMs, heldUpMs } = report;
  return `${String(requests)} requests, ${String(serials.length)} distinct serials, ${String(failed)} failed, longest gap ${String(longestGapMs)} ms, client held up ${String(heldUpMs)} ms at most${why ? `: ${why}` : ''}`;
}
