import { SignetError } from '../base/errors.ts';
import type { NamedSecret } from './response.ts';
import type { ErrorDetail, NodeInfo } from './request.ts';
import type { Published, SecretFeed } from './secret-source.ts';

/**
 * What both forms of the protocol share. A subscription is plain state with functions over it: they do no I/O and know no
 * stream. `request` takes what the client said; `next` says what to send now, and counts it as sent.
 */
export interface Subscriptions<Request extends { readonly node: NodeInfo | undefined }, State extends SubscriptionState> {
  readonly api: 'sotw' | 'delta';
  /** Throws INVALID_ARGUMENT. */
  decode(bytes: Buffer): Request;
  start(limits: NameLimits): State;
  /** How many names it makes us look at: what a request costs. */
  weight(request: Request): number;
  /** Throws a SignetError that ends the stream. */
  request(state: State, request: Request, lookup: Lookup): readonly Settled[];
  /** Undefined while there is nothing to say. */
  next(state: State): Response | undefined;
}

export type Lookup = (name: string) => SecretFeed | undefined;

export interface NameLimits {
  readonly maxNamesPerStream: number;
  readonly maxNameBytes: number;
}

/** Something that was sent was accepted, or refused if `error` is set. */
export interface Settled {
  readonly secrets: readonly SentSecret[];
  readonly error: ErrorDetail | undefined;
}

export interface SentSecret extends NamedSecret {
  readonly feed: SecretFeed;
}

export interface Response {
  readonly nonce: string;
  readonly version: string;
  readonly secrets: readonly SentSecret[];
  /** Delta only. */
  readonly removed: readonly string[];
}

/** One name that the client asked for and that there is, or may come to be, a secret for. */
export interface Held {
  readonly name: string;
  readonly feed: SecretFeed;
  /** What was sent last and not taken back: equal versions are equal bytes. */
  sent: Published | undefined;
  /** The version last refused. The same bytes would be ACKed without effect, so they aren't sent again. */
  refused: string | undefined;
  /** Delta: asked for (again), so it is answered although nothing changed. */
  asked: boolean;
  /** Delta: the client was told that there is none. */
  toldAbsent: boolean;
}

export interface SubscriptionState {
  readonly limits: NameLimits;
  readonly names: Map<string, Held>;
  /** Moves when `names` gains or loses one. */
  revision: number;
  /** Sent and neither accepted nor refused, oldest first. */
  readonly unsettled: Response[];
  /** The last nonce sent, a counter of this stream. */
  nonce: number;
  /** Whether a request has come. */
  started: boolean;
  /** The first answer is owed even if it is empty. */
  owed: boolean;
}

/** A client that never acknowledges loses evidence, not us memory. */
const maxUnsettled = 16;

export function startSubscription(limits: NameLimits): SubscriptionState {
  return { limits, names: new Map(), revision: 0, unsettled: [], nonce: 0, started: false, owed: false };
}

/** The feeds behind the names now held. */
export function feedsOf(state: SubscriptionState): ReadonlySet<SecretFeed> {
  const feeds = new Set<SecretFeed>();
  for (const held of state.names.values()) feeds.add(held.feed);
  return feeds;
}

/**
 * Looks a new name up. Names are the client's, of any form and number: one that can't be a secret's isn't even looked up,
 * and one that is unknown, or another's, leaves no trace here. Throws TOO_LARGE.
 */
export function hold(state: SubscriptionState, name: string, lookup: Lookup): Held | undefined {
  if (!isPlausible(name, state.limits)) return undefined;
  const feed = lookup(name);
  if (!feed) return undefined;
  if (state.names.size >= state.limits.maxNamesPerStream)
    throw new SignetError('TOO_LARGE', `more than ${String(state.limits.maxNamesPerStream)} names on a stream`);
  const held: Held = { name, feed, sent: undefined, refused: undefined, asked: true, toldAbsent: false };
  state.names.set(name, held);
  state.revision++;
  return held;
}

/** A dropped name is quiet; asked for again it is new. */
export function drop(state: SubscriptionState, name: string): void {
  if (state.names.delete(name)) state.revision++;
}

/** No name of ours is empty, long, a wildcard, or has anything but printable ASCII. */
export function isPlausible(name: string, limits: NameLimits): boolean {
  return name.length > 0 && name.length <= limits.maxNameBytes && /^[\x21-\x7e]+$/.test(name) && name !== '*';
}

/** The feed's state, where a secret of another type than the feed's is none: it is never sent. */
export function currentOf(held: Held): Published | 'pending' | 'absent' {
  const current = held.feed.current();
  if (typeof current === 'string' || current.type === held.feed.type) return current;
  throw new SignetError('INTERNAL', `the feed ${held.feed.key} holds a secret of another type than its own`);
}

/** Counts a response as sent. */
export function send(state: SubscriptionState, version: string, secrets: readonly SentSecret[], removed: readonly string[]): Response {
  state.nonce++;
  state.owed = false;
  const response: Response = { nonce: String(state.nonce), version, secrets, removed };
  if (state.unsettled.length >= maxUnsettled) state.unsettled.shift();
  // Nobody is told whether names that there aren't were taken; and they are the client's, of any number and length.
  state.unsettled.push(removed.length > 0 ? { ...response, removed: [] } : response);
  return response;
}

/** A response accepted or refused by its nonce; nothing if it was settled before or never sent. */
export function settle(state: SubscriptionState, nonce: string, error: ErrorDetail | undefined): readonly Settled[] {
  const index = state.unsettled.findIndex((sent) => sent.nonce === nonce);
  const [response] = index < 0 ? [] : state.unsettled.splice(index, 1);
  if (!response) return [];
  if (error) {
    for (const { name, published } of response.secrets) {
      const held = state.names.get(name);
      if (held) held.refused = published.version;
    }
  }
  return response.secrets.length > 0 ? [{ secrets: response.secrets, error }] : [];
}
