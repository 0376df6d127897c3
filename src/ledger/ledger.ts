import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Acknowledgement } from '../store/store.ts';
import { createAcknowledgedGenerations } from './acknowledged-generations.ts';
import { acknowledge as judge, createBearers, refuse } from './bearer-evidence.ts';
import type { BearerEvidence } from './bearer-evidence.ts';
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
  /** Open streams, oldest first; all of them, or those chosen by what they are. */
  streams(filter?: (stream: StreamInfo) => boolean): readonly StreamView[];
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

interface Delivery {
  readonly secret: DeliveredSecret;
  readonly state: DeliveryState;
  readonly nack: Nack | undefined;
  readonly at: number;
}

interface OpenStream {
  readonly info: StreamInfo;
  readonly bearer: BearerEvidence;
  /** By the feed's key. */
  readonly deliveries: Map<string, Delivery>;
}

/** What each open stream was sent, took and refused; and the evidence that trust changes are gated by. */
export function createLedger({ acknowledge, clock, log }: LedgerParts): Ledger {
  const open = new Map<number, OpenStream>();
  const bearers = createBearers();
  const generations = createAcknowledgedGenerations(acknowledge, log);
  const changeListeners = new Set<() => void>();
  const outcomeListeners = new Set<(outcome: Outcome) => void>();
  let changeScheduled = false;

  function changed(): void {
    if (changeScheduled || changeListeners.size === 0) return;
    changeScheduled = true;
    setImmediate(() => {
      changeScheduled = false;
      for (const listener of changeListeners) listener();
    });
  }

  const viewOf = ({ secret, ...rest }: Delivery): SecretView => ({ ...secret, ...rest });

  function set(stream: OpenStream, secret: DeliveredSecret, state: DeliveryState, nack: Nack | undefined): void {
    const delivery: Delivery = { secret, state, nack, at: clock.now() };
    stream.deliveries.set(secret.key, delivery);
    changed();
    if (outcomeListeners.size === 0 || (state === 'sent' && !nack)) return;
    const outcome: Outcome = { stream: stream.info, secret: viewOf(delivery) };
    for (const listener of outcomeListeners) listener(outcome);
  }

  return {
    opened(info) {
      open.set(info.id, { info, bearer: bearers.enter(info.caller), deliveries: new Map() });
      changed();
    },
    sent({ id }, secret) {
      const stream = open.get(id);
      if (stream) set(stream, secret, 'sent', undefined);
    },
    acknowledged({ id }, secret) {
      const stream = open.get(id);
      if (!stream) return;
      const { bearer } = stream;
      const verdict = judge(bearer, secret);
      if (verdict.hollow) {
        set(stream, secret, verdict.state, verdict.nack);
        return;
      }
      set(stream, secret, 'acknowledged', undefined);
      const { spiffeId, instance, key } = bearer;
      if (verdict.generation !== undefined) generations.add(key, { spiffeId, instance, generation: verdict.generation, at: clock.now() });
    },
    rejected({ id }, secret, nack) {
      const stream = open.get(id);
      if (stream) set(stream, secret, refuse(stream.bearer, secret, nack), nack);
    },
    closed({ id }) {
      const stream = open.get(id);
      if (!stream) return;
      open.delete(id);
      bearers.leave(stream.bearer);
      changed();
    },
    streams(filter = () => true) {
      const chosen: StreamView[] = [];
      for (const { info, deliveries } of open.values())
        if (filter(info)) chosen.push({ ...info, secrets: Array.from(deliveries.values(), viewOf) });
      return chosen;
    },
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
    flush: () => generations.flush(),
    close: () => generations.close(),
  };
}
