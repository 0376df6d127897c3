import { setTimeout as sleep } from 'node:timers/promises';
import { backoffMs } from '../base/backoff.ts';
import type { Random } from '../base/clock.ts';
import { abortable, deadlineSignal } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';

/** What somebody else says and may change at any time: asked again and again, the last good answer kept. */
export interface PolledValue<T> {
  /** The last good answer. */
  current(): T | undefined;
  /** The last good answer, or the one that is asked for now if there was none yet. Throws what asking threw. */
  get(signal: AbortSignal): Promise<T>;
  /** Asks now; at most one question is open at a time. */
  refresh(signal: AbortSignal): Promise<T>;
  close(): void;
}

export interface PolledValueOptions<T> {
  /** For the log: what is asked for, of whom. */
  readonly what: string;
  readonly ask: (signal: AbortSignal) => Promise<T>;
  readonly everyMs: number;
  readonly isSame: (a: T, b: T) => boolean;
  /** After each answer that differs from the one before, the first one included. */
  readonly onChange: (value: T) => void;
  readonly random: Random;
  readonly log: Log;
}

const askMs = 30_000;
const firstRetryMs = 500;

/** Begins to ask in the background; the first answer may be long in coming. */
export function createPolledValue<T>(options: PolledValueOptions<T>): PolledValue<T> {
  const { what, ask, everyMs, isSame, onChange, random, log } = options;
  const closed = new AbortController();
  let held: { readonly value: T } | undefined;
  let asking: Promise<T> | undefined;
  let failures = 0;

  async function askOnce(): Promise<T> {
    const signal = deadlineSignal(askMs, closed.signal);
    try {
      const value = await abortable(ask(signal), signal);
      if (failures > 0) log.info({}, `${what}: can be had again`);
      failures = 0;
      if (held && isSame(held.value, value)) return held.value;
      held = { value };
      onChange(value);
      return value;
    } catch (error) {
      const failure = SignetError.from(error);
      if (!closed.signal.aborted && failures++ === 0) log.warn({ err: failure }, `${what}: can't be had; asked again, again and again`);
      throw failure;
    }
  }

  function refresh(signal: AbortSignal): Promise<T> {
    asking ??= askOnce().finally(() => {
      asking = undefined;
    });
    return abortable(asking, signal);
  }

  /** Everybody at another moment: a fleet must not ask in step. */
  function pauseMs(): number {
    if (failures > 0) return backoffMs(failures - 1, { baseMs: Math.min(firstRetryMs, everyMs), maxMs: everyMs }, random);
    return everyMs * (0.9 + 0.2 * random());
  }

  async function keepAsking(): Promise<void> {
    while (!closed.signal.aborted) {
      await refresh(closed.signal).catch(() => undefined);
      await sleep(pauseMs(), undefined, { signal: closed.signal, ref: false }).catch(() => undefined);
    }
  }
  void keepAsking();

  return {
    current: () => held?.value,
    get: (signal) => {
      if (signal.aborted) return Promise.reject(SignetError.from(signal.reason));
      return held ? Promise.resolve(held.value) : refresh(signal);
    },
    refresh,
    close: () => {
      closed.abort(new SignetError('CANCELLED', 'it is being closed'));
    },
  };
}

/** Whether two lists hold the same DER, in whatever order. */
export function sameCertificates(a: readonly Buffer[], b: readonly Buffer[]): boolean {
  return a.length === b.length && a.every((one) => b.some((other) => other.equals(one)));
}
