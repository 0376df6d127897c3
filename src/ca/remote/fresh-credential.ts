import { setTimeout as sleep } from 'node:timers/promises';
import { backoffMs } from '../../base/backoff.ts';
import type { Clock, Random } from '../../base/clock.ts';
import { abortable, deadlineSignal } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';

export interface Credential<T> {
  readonly value: T;
  /** In ms since the epoch; Infinity for one without an end. */
  readonly endsAt: number;
}

export interface FreshCredential<T> {
  /** One that is valid now. Waits only if there is none: before the end of the last, the next is fetched in the background. */
  get(signal: AbortSignal): Promise<T>;
  /** The service refused it: the next `get` fetches another, but not more often than once in a while. */
  refused(value: T): void;
  close(): void;
}

export interface FreshCredentialOptions<T> {
  /** For messages. */
  readonly name: string;
  /** Throws a SignetError with one of the AUTHORITY_ codes. */
  readonly fetch: (signal: AbortSignal) => Promise<Credential<T>>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

const fetchMs = 30_000;
/** Wall-clock time can jump: the end is looked at this often at least. */
const lookEveryMs = 5000;
const retry = { baseMs: 1000, maxMs: 30_000 };
/** What is refused again and again is a wrong permission, not an old credential. */
const refusedFloorMs = 10_000;

/** When to fetch the next, in ms from `since`: at two thirds of its life, give or take a tenth, so that replicas don't ask together. */
export function renewalDelayMs(lifeMs: number, random: Random): number {
  return lifeMs * (0.6 + 0.13 * random());
}

/** A credential kept fresh: the last good one is used until it ends, whatever befalls its renewal. */
export function createFreshCredential<T>({ name, fetch, clock, random, log }: FreshCredentialOptions<T>): FreshCredential<T> {
  const closed = new AbortController();
  let held: Credential<T> | undefined;
  let renewAt = Infinity;
  let refusedAt: number | undefined;
  let inFlight: Promise<T> | undefined;
  let failures = 0;

  function fetchNow(): Promise<T> {
    inFlight ??= attempt().finally(() => {
      inFlight = undefined;
    });
    return inFlight;
  }

  async function attempt(): Promise<T> {
    const begun = clock.now();
    const signal = deadlineSignal(fetchMs, closed.signal);
    try {
      const next = await abortable(fetch(signal), signal);
      held = next;
      renewAt = Number.isFinite(next.endsAt) ? begun + renewalDelayMs(next.endsAt - begun, random) : Infinity;
      failures = 0;
      return next.value;
    } catch (error) {
      failures++;
      if (error instanceof SignetError && error.code !== 'DEADLINE_EXCEEDED') throw error;
      throw new SignetError('AUTHORITY_UNAVAILABLE', `${name} can't be had`, { cause: error });
    }
  }

  async function keepFresh(): Promise<void> {
    while (!closed.signal.aborted) {
      const due = failures > 0 ? backoffMs(failures - 1, retry, random) : renewAt - clock.now();
      await sleep(Math.min(Math.max(due, 50), lookEveryMs), undefined, { signal: closed.signal, ref: false });
      if (clock.now() < renewAt) continue;
      await fetchNow().catch((error: unknown) => {
        if (!closed.signal.aborted)
          log.warn({ err: error, endsAt: held?.endsAt }, `${name} could not be renewed; the last one is used until it ends`);
      });
    }
  }

  keepFresh().catch((error: unknown) => {
    if (!closed.signal.aborted) log.error({ err: SignetError.from(error) }, `the renewal of ${name} has stopped`);
  });

  return {
    async get(signal) {
      if (held && clock.now() < held.endsAt) return held.value;
      return abortable(fetchNow(), signal);
    },
    refused(value) {
      const now = clock.now();
      if (held?.value !== value || (refusedAt !== undefined && Math.abs(now - refusedAt) < refusedFloorMs)) return;
      refusedAt = now;
      held = undefined;
    },
    close() {
      closed.abort();
    },
  };
}
