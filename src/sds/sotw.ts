import { versionOf } from './response.ts';
import { sotwRequest } from './request.ts';
import type { SotwRequest } from './request.ts';
import { currentOf, drop, hold, send, settle, startSubscription } from './subscription.ts';
import type { Lookup, NameLimits, Response, SentSecret, Settled, Subscriptions, SubscriptionState } from './subscription.ts';

/**
 * State of the world, https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol. Each request repeats all names
 * that the client wants; a response holds those whose bytes the client doesn't have: for secrets it needn't be all of them
 * ("Grouping Resources into Responses"), and so one refused secret doesn't take another one's update with it.
 */
export const sotw: Subscriptions<SotwRequest, SotwState> = {
  api: 'sotw',
  decode: sotwRequest,
  start: (limits: NameLimits) => ({ ...startSubscription(limits), accepted: false }),
  weight: (request) => request.names.length,
  request: takeRequest,
  next: nextResponse,
};

export interface SotwState extends SubscriptionState {
  /** Whether the client has accepted a response of this stream. */
  accepted: boolean;
}

function takeRequest(state: SotwState, request: SotwRequest, lookup: Lookup): readonly Settled[] {
  const first = !state.started;
  const settled = first ? [] : settledBy(state, request);
  // ACK and NACK semantics: what comes with a nonce that isn't the last one sent was written before the client saw the last
  // response, and it will speak again. Such a request changes no subscription and is not answered; of the one response that
  // it names it is still the client's word, and the ledger hears that. An empty nonce is allowed until the client has
  // accepted an update of this stream (DiscoveryRequest.response_nonce).
  if (!first && request.nonce !== String(state.nonce) && !(request.nonce === '' && !state.accepted)) return settled;
  if (first) {
    state.started = true;
    // The first request of a stream is answered, also when its version is the current one: a version accepted on an
    // earlier stream says nothing of the names that are asked for now.
    state.owed = true;
  }
  subscribeTo(state, request.names, lookup);
  return settled;
}

function settledBy(state: SotwState, request: SotwRequest): readonly Settled[] {
  if (request.nonce === '') return [];
  if (request.error) return settle(state, request.nonce, request.error);
  // A request that only changes names repeats the last nonce with the version accepted before: no ACK.
  const response = state.unsettled.find((sent) => sent.nonce === request.nonce);
  if (response?.version !== request.version) return [];
  state.accepted = true;
  return settle(state, request.nonce, undefined);
}

/** The names of the last request are the subscription, each once. Neither the empty list nor `*` means everything. */
function subscribeTo(state: SubscriptionState, names: readonly string[], lookup: Lookup): void {
  const [only] = names;
  // As each ACK of an Envoy is: nothing but what is held already.
  if (names.length === 1 && only !== undefined && state.names.size === 1 && state.names.has(only)) return;
  const wanted = new Set(names);
  for (const name of state.names.keys()) if (!wanted.has(name)) drop(state, name);
  for (const name of wanted) if (!state.names.has(name)) hold(state, name, lookup);
}

function nextResponse(state: SubscriptionState): Response | undefined {
  const secrets: SentSecret[] = [];
  let pending = false;
  for (const held of state.names.values()) {
    const current = currentOf(held);
    if (current === 'pending') pending = true;
    // Absence can't be said in this form: the client keeps what it has.
    if (typeof current === 'string' || current.version === held.sent?.version || current.version === held.refused) continue;
    secrets.push({ name: held.name, feed: held.feed, published: current });
  }
  if (secrets.length === 0 && (!state.owed || pending)) return undefined;
  for (const { name, published } of secrets) {
    const held = state.names.get(name);
    if (held) held.sent = published;
  }
  return send(state, versionOf(secrets), secrets, []);
}
