import { versionOf } from './response.ts';
import { deltaRequest } from './request.ts';
import type { DeltaRequest } from './request.ts';
import { currentOf, drop, hold, isPlausible, send, settle, startSubscription } from './subscription.ts';
import type { Lookup, NameLimits, Response, SentSecret, Settled, Subscriptions, SubscriptionState } from './subscription.ts';

/**
 * Incremental xDS, https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds. Names are added and
 * taken away; what doesn't exist is said at once, by `removed_resources`.
 */
export const delta: Subscriptions<DeltaRequest, DeltaState> = {
  api: 'delta',
  decode: deltaRequest,
  start: (limits: NameLimits) => ({ ...startSubscription(limits), gone: new Set<string>() }),
  weight: (request) => request.subscribe.length + request.unsubscribe.length + request.held.size,
  request: takeRequest,
  next: nextResponse,
};

export interface DeltaState extends SubscriptionState {
  /** Asked for, unknown, and not yet told so. Emptied by the next response. */
  readonly gone: Set<string>;
}

function takeRequest(state: DeltaState, request: DeltaRequest, lookup: Lookup): readonly Settled[] {
  const first = !state.started;
  state.started = true;
  // Each response is acknowledged by its own nonce, in any order; an unknown one says nothing. Either way the rest of the
  // request counts: in this form a stale nonce invalidates no subscription.
  const settled = request.nonce === '' ? [] : settle(state, request.nonce, request.error);
  for (const name of request.unsubscribe) {
    drop(state, name);
    state.gone.delete(name);
  }
  const refusedNow = new Set(request.error ? settled.flatMap(({ secrets }) => secrets.map(({ name }) => name)) : []);
  for (const name of new Set(request.subscribe)) subscribe(state, name, lookup, refusedNow);
  return first && request.held.size > 0 ? reconcile(state, request.held, lookup) : settled;
}

function subscribe(state: DeltaState, name: string, lookup: Lookup, refusedNow: ReadonlySet<string>): void {
  const known = state.names.get(name);
  if (!known) {
    if (hold(state, name, lookup)) state.gone.delete(name);
    else state.gone.add(name);
    return;
  }
  // Asked for again, it is answered although nothing changed: the client may have dropped it. But a refusal isn't answered
  // with the very bytes that it refuses, whatever else the request says.
  if (!refusedNow.has(name)) known.asked = true;
  known.toldAbsent = false;
}

/**
 * What a reconnecting client says that it holds (`initial_resource_versions`) subscribes to nothing; what is current isn't
 * sent again, and what no longer exists is reported. An answer is owed even if it is empty: Envoy's reconnection back-off
 * is reset by a message only, and in silence grows to many seconds.
 */
function reconcile(state: DeltaState, versions: ReadonlyMap<string, string>, lookup: Lookup): readonly Settled[] {
  state.owed = true;
  const current: SentSecret[] = [];
  for (const [name, version] of versions) {
    const held = state.names.get(name);
    if (!held) {
      if (!isPlausible(name, state.limits) || !exists(name, lookup)) state.gone.add(name);
      continue;
    }
    const published = currentOf(held);
    if (typeof published === 'string' || published.version !== version) continue;
    held.sent = published;
    held.asked = false;
    current.push({ name, feed: held.feed, published });
  }
  // Envoy lists what it accepted, never what it refused: as good as an acknowledgement.
  return current.length > 0 ? [{ secrets: current, error: undefined }] : [];
}

function exists(name: string, lookup: Lookup): boolean {
  const feed = lookup(name);
  return feed !== undefined && feed.current() !== 'absent';
}

function nextResponse(state: DeltaState): Response | undefined {
  const secrets: SentSecret[] = [];
  const removed = [...state.gone];
  let pending = false;
  for (const held of state.names.values()) {
    const current = currentOf(held);
    if (current === 'pending') pending = true;
    else if (current === 'absent') {
      if (!held.toldAbsent) removed.push(held.name);
      held.toldAbsent = true;
      held.sent = undefined;
      held.asked = false;
    } else if (held.asked || (current.version !== held.sent?.version && current.version !== held.refused)) {
      secrets.push({ name: held.name, feed: held.feed, published: current });
      held.sent = current;
      held.asked = false;
      held.toldAbsent = false;
    }
  }
  if (secrets.length === 0 && removed.length === 0 && (!state.owed || pending)) return undefined;
  state.gone.clear();
  return send(state, systemVersion(state), secrets, removed);
}

/** Of all that the client holds after this response. */
function systemVersion(state: DeltaState): string {
  const holds = [...state.names.values()].flatMap(({ name, sent }) => (sent ? [{ name, published: sent }] : []));
  return versionOf(holds);
}
