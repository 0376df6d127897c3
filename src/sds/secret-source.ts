import type { Caller } from '../identity/caller.ts';
import type { CheckedAnchors, CheckedIdentity } from '../x509/material.ts';

/** One version of one secret. Identical objects are identical bytes: the encoder caches by object. */
export type Published =
  | { readonly type: 'identity'; readonly version: string; readonly identity: CheckedIdentity }
  | { readonly type: 'validation'; readonly version: string; readonly generation: number; readonly anchors: CheckedAnchors };

/** `pending`: it is being made, say nothing yet. `absent`: it doesn't exist now; it may later, and is pushed then. */
export type FeedState = Published | 'pending' | 'absent';

/** One secret over time, shared by every stream that subscribes to it. It is bound to one type for life. */
export interface SecretFeed {
  readonly type: Published['type'];
  /** Stable and short; for the ledger and logs. */
  readonly key: string;
  current(): FeedState;
  /** The listener is called after each change of `current`. The first subscriber may start work. Returns how to stop. */
  subscribe(listener: () => void): () => void;
}

/** What the SDS server needs of whoever makes secrets: the server's issuance and trust, or an agent's cache. */
export interface SecretSource {
  /**
   * The feed behind a name for this caller; undefined for an unknown name and for another's alike.
   * Cheap, synchronous and without effects: names are the client's, of any form and number.
   */
  lookup(caller: Caller, name: string): SecretFeed | undefined;
}

/** What a call shows of its caller. Asked for, not listed: of a call's metadata two or three keys are ever looked at. */
export interface Shown {
  /** A metadata value; the key is lower-case. Values sent under one key twice are joined, so that none hides behind another. */
  header(key: string): string | undefined;
  /** DER, leaf first, only if TLS verified it. */
  peerChain(): readonly Buffer[];
}

/** Who may open and keep a stream; the root wires it to identity and policy. */
export interface Admission {
  /** The caller itself where nothing has to be waited for. Throws, or rejects with, a SignetError. */
  authenticate(call: Shown, signal: AbortSignal): Caller | Promise<Caller>;
  /** Undefined while the caller may go on, else why not. Asked again before anything private is sent. */
  refusal(caller: Caller): Error | undefined;
  /** Called when answers of `refusal` may have changed (a key taken out, an identity denied), with whose. Returns how to stop. */
  onChange(listener: (concerned: (caller: Caller) => boolean) => void): () => void;
}
