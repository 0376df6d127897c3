import type { Caller } from '../identity/caller.ts';

/** A stream as the ledger sees it. */
export interface StreamInfo {
  readonly id: number;
  readonly caller: Caller;
  readonly api: 'sotw' | 'delta';
  readonly openedAt: number;
  /** From node, for display only, capped and cleaned: nothing is decided by it. */
  readonly nodeId: string;
  readonly envoyVersion: string;
}

/** What was sent: no key, no bytes. */
export interface DeliveredSecret {
  /** The feed's key, stable and short. */
  readonly key: string;
  readonly type: 'identity' | 'validation';
  readonly version: string;
  /** Of trust material. */
  readonly generation: number | undefined;
  /** Of an identity. */
  readonly serial: string | undefined;
  /** Of an identity: only a file name was sent, the key is on Envoy's host. So a missing or other key there may yet appear. */
  readonly keyOnHost: boolean;
}

export type NackClass = 'key-mismatch' | 'key-missing' | 'bad-chain' | 'bad-key' | 'bad-trust' | 'undecodable' | 'constraint' | 'other';

/** Redacted: Envoy's own words can hold a private key. */
export interface Nack {
  readonly class: NackClass;
  readonly detail: string;
}

/** Told of each send and what became of it. Calls are synchronous, cheap and never throw. */
export interface Deliveries {
  opened(stream: StreamInfo): void;
  sent(stream: StreamInfo, secret: DeliveredSecret): void;
  acknowledged(stream: StreamInfo, secret: DeliveredSecret): void;
  rejected(stream: StreamInfo, secret: DeliveredSecret, nack: Nack): void;
  closed(stream: StreamInfo, reason: string): void;
}
