import type { ErrorCode } from '../base/errors.ts';
import type { Bearer, Caller } from '../identity/caller.ts';
import type { CheckedIdentity } from '../x509/material.ts';
import type { Issued } from './issuer.ts';

/** One version of an instance's identity; the same object for the same bytes. */
export interface PublishedIdentity {
  readonly type: 'identity';
  /** The certificate's serial: unique, and new with every set of bytes. */
  readonly version: string;
  readonly identity: CheckedIdentity;
}

/** `pending`: being made. `absent`: there is none now (no key is bound); it may come. */
export type IdentityState = PublishedIdentity | 'pending' | 'absent';

/** What an SDS stream subscribes to: the identity of one instance over time, shared by all of its streams. */
export interface IdentityFeed {
  readonly type: 'identity';
  readonly key: string;
  current(): IdentityState;
  subscribe(listener: () => void): () => void;
}

export type StreamedKeyMode = 'server' | 'csr';

/** What happened to an instance's certificate. Whoever schedules renewals goes by it, and whoever counts. */
export type CertificateEvent = { readonly name: string; readonly bearer: Bearer; readonly mode: StreamedKeyMode } & (
  | {
      readonly kind: 'published';
      readonly serial: string;
      readonly issuedAt: number;
      readonly notBefore: number;
      readonly notAfter: number;
      /** A later one for this key could not end later: the key itself ends. */
      readonly final: boolean;
      /** False when it is only taken up again by a new subscriber. */
      readonly fresh: boolean;
    }
  | {
      readonly kind: 'failed';
      readonly code: ErrorCode;
      /** In a row, at least 1. */
      readonly failures: number;
      /** End of the certificate still held. */
      readonly notAfter: number | undefined;
      readonly retryAfterMs: number | undefined;
    }
  /** Envoy has the chain but not the key file. */
  | { readonly kind: 'pending-key'; readonly refusals: number }
  /** Past 75 % of the bound key's greatest age. */
  | { readonly kind: 'key-ageing'; readonly keyEnds: number }
  /** The last subscriber left. */
  | { readonly kind: 'idle'; readonly since: number }
  /** Nothing is held and nothing is to be done: no binding, denied, or forgotten. */
  | { readonly kind: 'gone' }
);

type WithoutSubject<T> = T extends CertificateEvent ? Omit<T, 'name' | 'bearer' | 'mode'> : never;
/** An event but for whose it is. */
export type CertificateHappening = WithoutSubject<CertificateEvent>;

export interface Held {
  readonly published: PublishedIdentity;
  readonly issued: Issued;
  /** In `csr` mode, what it was made for. */
  readonly keyFile: string | undefined;
  readonly final: boolean;
}

/** All that is known of one instance; it lives from its first subscription until it has been idle for a while. */
export interface InstanceEntry {
  readonly name: string;
  readonly bearer: Bearer;
  readonly listeners: Set<() => void>;
  mode: StreamedKeyMode;
  /** Of the newest subscription: in its name renewals are authorized and recorded. */
  caller: Caller;
  held: Held | undefined;
  absent: boolean;
  /** Failures in a row. */
  failures: number;
  /** How often in a row Envoy refused the chain for want of its key, and which version last. */
  refusals: number;
  refusedVersion: string | undefined;
  /** Raised by whatever makes work under way worthless: another key bound, a denial. */
  epoch: number;
  making: Promise<Issued | undefined> | undefined;
}

export function newEntry(name: string, bearer: Bearer, mode: StreamedKeyMode, caller: Caller): InstanceEntry {
  return {
    name,
    bearer,
    mode,
    caller,
    listeners: new Set(),
    held: undefined,
    absent: false,
    failures: 0,
    refusals: 0,
    refusedVersion: undefined,
    epoch: 0,
    making: undefined,
  };
}

/** A snapshot for the operator; nothing private in it. */
export interface InstanceView {
  readonly spiffeId: string;
  readonly instance: string;
  readonly mode: StreamedKeyMode;
  readonly state: 'published' | 'pending' | 'absent' | 'expired' | 'pending-key';
  readonly serial: string | undefined;
  readonly notBefore: number | undefined;
  readonly notAfter: number | undefined;
  /** What its renewal is timed by; undefined where none is due, as for a key's last certificate. */
  readonly renewable: { readonly issuedAt: number; readonly notAfter: number } | undefined;
  readonly subscribers: number;
  readonly failures: number;
}

export function viewOf(entry: InstanceEntry, now: number): InstanceView {
  const { held } = entry;
  return {
    spiffeId: entry.bearer.spiffeId,
    instance: entry.bearer.instance,
    mode: entry.mode,
    state: stateOf(entry, now),
    serial: held?.published.version,
    notBefore: held?.issued.notBefore,
    notAfter: held?.issued.notAfter,
    renewable: held && !held.final ? held.issued.record : undefined,
    subscribers: entry.listeners.size,
    failures: entry.failures,
  };
}

function stateOf(entry: InstanceEntry, now: number): InstanceView['state'] {
  if (!entry.held) return entry.absent ? 'absent' : 'pending';
  if (entry.held.issued.notAfter <= now) return 'expired';
  return entry.refusals > 0 ? 'pending-key' : 'published';
}
