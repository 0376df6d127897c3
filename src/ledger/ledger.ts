import { abortable, deadlineSignal } from '../base/deadline.ts';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { bearerKey } from '../identity/caller.ts';
import type { Caller } from '../identity/caller.ts';
import type { Acknowledgement } from '../store/store.ts';
import { createBearerEvidence } from './bearer-evidence.ts';
import type { DeliveredSecret, Deliveries, Nack, StreamInfo } from './delivery.ts';

/** `pending-key`: refused because the key on Envoy's host isn't the one bound, or not there yet. */
export type DeliveryState = 'sent' | 'acknowledged' | 'rejected' | 'pending-key';

export interface SecretView extends DeliveredSecret {
  readonly state: DeliveryState;
  /** Why it is rejected or pending. On a `sent` validation secret: the identity's error, which holds this one back. */
  readonly nack: Nack | undefined;
  readonly at: number;
}

export interface StreamView extends StreamInfo {
  readonly secrets: readonly SecretView[];
}

/** What became of one send. */
export interface Outcome {
  readonly stream: StreamInfo;
  readonly secret: SecretView;
}

export interface LedgerParts {
  /** Durable when it resolves. Called with at most one entry a bearer, one call at a time. */
  readonly acknowledge: (batch: readonly Acknowledgement[]) => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Ledger extends Deliveries {
  /** Open streams, oldest first. */
  streams(): readonly StreamView[];
  readonly streamCount: number;
  /** Called at most once a turn of the loop after anything changed. Returns how to stop. */
  onChange(listener: () => void): () => void;
  /** Called at once with each acknowledgement, refusal and pending key. It must not throw. Returns how to stop. */
  onOutcome(listener: (outcome: Outcome) => void): () => void;
  /** Resolves once all evidence so far is durable; rejects as `acknowledge` does. */
  flush(): Promise<void>;
  /** Stops retrying; what can still be written now is. */
  close(): Promise<void>;
}

interface OpenStream {
  readonly info: StreamInfo;
  readonly secrets: Map<string, SecretView>;
}

const acknowledgeTimeoutMs = 10_000;
const retryMs = 1_000;

/** What each open stream was sent, took and refused; and the evidence that trust changes are gated by. */
export function createLedger({ acknowledge, clock, log }: LedgerParts): Ledger {
  const open = new Map<number, OpenStream>();
  const evidence = createBearerEvidence();
  const changeListeners = new Set<() => void>();
  const outcomeListeners = new Set<(outcome: Outcome) => void>();
  const unwritten = new Map<string, Acknowledgement>();
  let changeScheduled = false;
  let writing: Promise<void> | undefined;
  let retry: NodeJS.Timeout | undefined;
  let scheduled = false;
  let closed = false;

  function changed(): void {
    if (changeScheduled || changeListeners.size === 0) return;
    changeScheduled = true;
    setImmediate(() => {
      changeScheduled = false;
      for (const listener of changeListeners) listener();
    });
  }

  function set(stream: StreamInfo, secret: DeliveredSecret, state: DeliveryState, nack: Nack | undefined): void {
    const view: SecretView = { ...secret, state, nack, at: clock.now() };
    open.get(stream.id)?.secrets.set(secret.key, view);
    changed();
    if (state === 'sent' && !nack) return;
    for (const listener of outcomeListeners) listener({ stream, secret: view });
  }

  function write(): Promise<void> {
    writing ??= writeAll().finally(() => {
      writing = undefined;
    });
    return writing;
  }

  async function writeAll(): Promise<void> {
    clearTimeout(retry);
    retry = undefined;
    while (unwritten.size > 0) {
      const batch = new Map(unwritten);
      unwritten.clear();
      try {
        await abortable(acknowledge([...batch.values()]), deadlineSignal(acknowledgeTimeoutMs));
      } catch (error) {
        for (const [key, entry] of batch) {
          const newer = unwritten.get(key);
          if (!newer || newer.generation < entry.generation) unwritten.set(key, entry);
        }
        throw error;
      }
    }
  }

  function writeSoon(delayMs: number): void {
    if (closed || scheduled || retry) return;
    const run = (): void => {
      scheduled = false;
      retry = undefined;
      write().catch((error: unknown) => {
        log.warn({ err: error, bearers: unwritten.size }, 'acknowledged generations could not be recorded; trying again');
        writeSoon(retryMs);
      });
    };
    if (delayMs > 0) {
      retry = setTimeout(run, delayMs);
      retry.unref();
    } else {
      scheduled = true;
      setImmediate(run);
    }
  }

  function record(caller: Caller, generation: number): void {
    const bearer = { spiffeId: caller.spiffeId, instance: caller.instance ?? '' };
    unwritten.set(bearerKey(bearer), { ...bearer, generation, at: clock.now() });
    writeSoon(0);
  }

  return {
    opened(stream) {
      open.set(stream.id, { info: stream, secrets: new Map() });
      evidence.opened(stream.caller);
      changed();
    },
    sent(stream, secret) {
      set(stream, secret, 'sent', undefined);
    },
    acknowledged(stream, secret) {
      const verdict = evidence.acknowledged(stream.caller, secret);
      if (verdict.hollow) {
        set(stream, secret, verdict.state, verdict.nack);
        return;
      }
      set(stream, secret, 'acknowledged', undefined);
      if (verdict.generation !== undefined) record(stream.caller, verdict.generation);
    },
    rejected(stream, secret, nack) {
      set(stream, secret, evidence.rejected(stream.caller, secret, nack), nack);
    },
    closed(stream) {
      if (!open.delete(stream.id)) return;
      evidence.closed(stream.caller);
      changed();
    },
    streams: () => Array.from(open.values(), ({ info, secrets }) => ({ ...info, secrets: [...secrets.values()] })),
    get streamCount() {
      return open.size;
    },
    onChange(listener) {
      changeListeners.add(listener);
      return () => changeListeners.delete(listener);
    },
    onOutcome(listener) {
      outcomeListeners.add(listener);
      return () => outcomeListeners.delete(listener);
    },
    flush: write,
    async close() {
      closed = true;
      clearTimeout(retry);
      await write();
    },
  };
}
