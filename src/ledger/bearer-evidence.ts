import type { Caller } from '../identity/caller.ts';
import type { DeliveredSecret, Nack, NackClass } from './delivery.ts';

/**
 * What an acknowledgement is worth. Judged by bearer, not by stream: an Envoy opens a stream for each secret, and reopens
 * them, while what it holds stays. Envoy's behaviour as seen with the real binary:
 * - The same bytes after a NACK are ACKed without effect, so such an ACK proves nothing.
 * - While a bad identity is held, trust updates are NACKed with the identity's error and don't take effect; the bytes
 *   themselves weren't judged, so once the identity is good an ACK of them counts.
 */
export type AckVerdict =
  | { readonly hollow: false /** Set when it advances the bearer's acknowledged generation. */; readonly generation: number | undefined }
  | { readonly hollow: true; readonly state: 'rejected' | 'pending-key' | 'sent'; readonly nack: Nack };

export interface BearerEvidence {
  opened(caller: Caller): void;
  closed(caller: Caller): void;
  acknowledged(caller: Caller, secret: DeliveredSecret): AckVerdict;
  /** The state that the secret is in by this: `sent` for trust that is only held back by the identity. */
  rejected(caller: Caller, secret: DeliveredSecret, nack: Nack): 'rejected' | 'pending-key' | 'sent';
}

interface Refusal {
  readonly type: DeliveredSecret['type'];
  readonly version: string;
  readonly generation: number | undefined;
  readonly nack: Nack;
  readonly state: 'rejected' | 'pending-key' | 'sent';
}

interface BearerRecord {
  streams: number;
  generation: number;
  /** The last refusal of each secret, until newer bytes of it are acknowledged: a late ACK of older ones takes nothing back. */
  readonly refusals: Map<string, Refusal>;
}

const identityClasses: ReadonlySet<NackClass> = new Set(['key-mismatch', 'key-missing', 'bad-chain', 'bad-key']);
const keyClasses: ReadonlySet<NackClass> = new Set(['key-mismatch', 'key-missing']);

/** Refusals of bearers without a stream are remembered for at most this many bearers. */
const rememberedAway = 10_000;

export function createBearerEvidence(): BearerEvidence {
  const bearers = new Map<string, BearerRecord>();
  const away = new Set<string>();

  // An ID has no space; a caller without an instance is a bearer of its own.
  const keyOf = (caller: Caller): string => `${caller.spiffeId} ${caller.instance ?? ''}`;

  function recordOf(key: string): BearerRecord {
    let record = bearers.get(key);
    if (!record) {
      record = { streams: 0, generation: -1, refusals: new Map() };
      bearers.set(key, record);
    }
    return record;
  }

  const identityRefusal = (record: BearerRecord): Refusal | undefined =>
    [...record.refusals.values()].find((refusal) => refusal.type === 'identity');

  return {
    opened(caller) {
      const key = keyOf(caller);
      away.delete(key);
      recordOf(key).streams++;
    },

    closed(caller) {
      const key = keyOf(caller);
      const record = bearers.get(key);
      if (!record || --record.streams > 0) return;
      if (record.refusals.size === 0) {
        bearers.delete(key);
        return;
      }
      away.add(key);
      if (away.size <= rememberedAway) return;
      const oldest = away.values().next();
      if (oldest.done) return;
      away.delete(oldest.value);
      bearers.delete(oldest.value);
    },

    acknowledged(caller, secret) {
      const record = recordOf(keyOf(caller));
      const refusal = record.refusals.get(secret.key);
      if (refusal?.version === secret.version) {
        const heldBack = refusal.state === 'sent';
        if (!heldBack || identityRefusal(record)) return { hollow: true, state: refusal.state, nack: refusal.nack };
      }
      if (!refusal || refusal.generation === undefined || (secret.generation ?? 0) >= refusal.generation)
        record.refusals.delete(secret.key);
      if (secret.generation === undefined || secret.generation <= record.generation) return { hollow: false, generation: undefined };
      record.generation = secret.generation;
      return { hollow: false, generation: secret.generation };
    },

    rejected(caller, secret, nack) {
      const record = recordOf(keyOf(caller));
      let state: Refusal['state'] = 'rejected';
      if (secret.type === 'identity' && secret.keyOnHost && keyClasses.has(nack.class)) state = 'pending-key';
      if (secret.type === 'validation' && identityClasses.has(nack.class) && identityRefusal(record)) state = 'sent';
      record.refusals.set(secret.key, { type: secret.type, version: secret.version, generation: secret.generation, nack, state });
      return state;
    },
  };
}
