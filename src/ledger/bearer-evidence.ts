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
  | { readonly hollow: true; readonly state: RefusedState; readonly nack: Nack };

/** `sent` for trust that is only held back by the identity. */
export type RefusedState = 'rejected' | 'pending-key' | 'sent';

export interface Bearers {
  /** The bearer behind a new stream; one object however many streams it has. */
  enter(caller: Caller): BearerEvidence;
  leave(bearer: BearerEvidence): void;
}

export interface BearerEvidence {
  /** Of spiffeId and instance, which is empty for a caller without one: unique, as an ID has no space. */
  readonly key: string;
  readonly spiffeId: string;
  readonly instance: string;
  streams: number;
  /** The newest trust that it acknowledged since it came; -1 for none. */
  generation: number;
  /** The last refusal of each secret, until newer bytes of it are acknowledged: a late ACK of older ones takes nothing back. */
  readonly refusals: Map<string, Refusal>;
}

interface Refusal {
  readonly type: DeliveredSecret['type'];
  readonly version: string;
  readonly generation: number | undefined;
  readonly nack: Nack;
  readonly state: RefusedState;
}

const identityClasses: ReadonlySet<NackClass> = new Set(['key-mismatch', 'key-missing', 'bad-chain', 'bad-key']);
const keyClasses: ReadonlySet<NackClass> = new Set(['key-mismatch', 'key-missing']);

/** Refusals of bearers without a stream are remembered for at most this many bearers. */
const rememberedAway = 10_000;

export function createBearers(): Bearers {
  const bearers = new Map<string, BearerEvidence>();
  const away = new Set<string>();

  return {
    enter({ spiffeId, instance = '' }) {
      const key = `${spiffeId} ${instance}`;
      away.delete(key);
      let bearer = bearers.get(key);
      if (!bearer) {
        bearer = { key, spiffeId, instance, streams: 0, generation: -1, refusals: new Map() };
        bearers.set(key, bearer);
      }
      bearer.streams++;
      return bearer;
    },

    leave(bearer) {
      bearer.streams--;
      if (bearer.streams > 0) return;
      if (bearer.refusals.size === 0) {
        bearers.delete(bearer.key);
        return;
      }
      away.add(bearer.key);
      if (away.size <= rememberedAway) return;
      const oldest = away.values().next();
      if (oldest.done) return;
      away.delete(oldest.value);
      bearers.delete(oldest.value);
    },
  };
}

export function acknowledge(bearer: BearerEvidence, secret: DeliveredSecret): AckVerdict {
  const refusal = bearer.refusals.get(secret.key);
  if (refusal) {
    const heldBack = refusal.state === 'sent';
    if (refusal.version === secret.version && (!heldBack || isIdentityRefused(bearer)))
      return { hollow: true, state: refusal.state, nack: refusal.nack };
    if (refusal.generation === undefined || (secret.generation ?? 0) >= refusal.generation) bearer.refusals.delete(secret.key);
  }
  if (secret.generation === undefined || secret.generation <= bearer.generation) return { hollow: false, generation: undefined };
  bearer.generation = secret.generation;
  return { hollow: false, generation: secret.generation };
}

/** The state that the secret is in by this. */
export function refuse(bearer: BearerEvidence, secret: DeliveredSecret, nack: Nack): RefusedState {
  let state: RefusedState = 'rejected';
  if (secret.type === 'identity' && secret.keyOnHost && keyClasses.has(nack.class)) state = 'pending-key';
  if (secret.type === 'validation' && identityClasses.has(nack.class) && isIdentityRefused(bearer)) state = 'sent';
  bearer.refusals.set(secret.key, { type: secret.type, version: secret.version, generation: secret.generation, nack, state });
  return state;
}

function isIdentityRefused(bearer: BearerEvidence): boolean {
  for (const refusal of bearer.refusals.values()) if (refusal.type === 'identity') return true;
  return false;
}
