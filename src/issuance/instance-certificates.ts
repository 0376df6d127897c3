import { createHash } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { abortable } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { createRecentMap } from '../base/recent-map.ts';
import { bearerKey } from '../identity/caller.ts';
import type { Bearer, Caller } from '../identity/caller.ts';
import type { Policy } from '../policy/policy.ts';
import type { SpiffeId } from '../spiffe/id.ts';
import type { Bindings } from './bindings.ts';
import { newEntry, viewOf } from './instance-entry.ts';
import type { CertificateEvent, IdentityFeed, InstanceEntry, InstanceView, StreamedKeyMode } from './instance-entry.ts';
import { createIdentityMaker } from './instance-identity.ts';
import { createInstanceRegistry } from './instance-registry.ts';
import { createInstanceWork, defaultInstanceCertificatesLimits } from './instance-work.ts';
import type { InstanceCertificatesLimits } from './instance-work.ts';
import { instanceRequired } from './issuer.ts';
import type { Issued, Issuer } from './issuer.ts';

export interface InstanceCertificates {
  /** The identity of this caller's instance; undefined if policy gives it none by SDS. Cheap and without effects until subscribed to. */
  feed(caller: Caller): IdentityFeed | undefined;
  /**
   * Issues and publishes anew, at once, for every instance of the identity (or the one named) that has a subscriber.
   * Empty if there is none. Throws the first failure, saying how many failed; those that worked stay published.
   */
  renew(filter: { readonly spiffeId: SpiffeId; readonly instance?: string | undefined }, signal: AbortSignal): Promise<readonly Issued[]>;
  /** A renewal has come due. `force`: make new bytes even if they end no later. Does nothing for an instance without subscribers. */
  renewNow(name: string, force: boolean): void;
  /** Forgets an instance, its key included, unless it has subscribers. */
  dropIdle(name: string): void;
  /** The instance's Envoy refused this version (any, if not named); in `csr` mode for want of its key it is signed anew, later. */
  nacked(bearer: Bearer, nackClass: string, version?: string): void;
  /** The instance's Envoy took a version: what was refused before is over. */
  acknowledged(bearer: Bearer): void;
  /** The identity was denied: keys and certificates go at once, and nothing is made for it. */
  refuse(id: SpiffeId): void;
  /** The denial was lifted: instances that are still subscribed are served again. */
  readmit(id: SpiffeId): void;
  /** The binding of this instance changed; called by itself for bindings made in this process. */
  rebound(bearer: Bearer): void;
  observe(listener: (event: CertificateEvent) => void): () => void;
  list(): readonly InstanceView[];
  get(bearer: Bearer): InstanceView | undefined;
  close(): void;
}

export interface InstanceCertificatesDeps {
  readonly issuer: Pick<Issuer, 'issue'>;
  readonly bindings: Pick<Bindings, 'get' | 'used' | 'onChange'>;
  readonly policy: Policy;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits?: Partial<InstanceCertificatesLimits>;
}

/** The certificate of each (identity, instance) that a stream asks for: made once, shared by its streams, kept until its real end. */
export function createInstanceCertificates(deps: InstanceCertificatesDeps): InstanceCertificates {
  const { policy, clock, log } = deps;
  const limits: InstanceCertificatesLimits = { ...defaultInstanceCertificatesLimits, ...deps.limits };
  const maker = createIdentityMaker(deps);
  const closing = new AbortController();
  const registry = createInstanceRegistry({ clock, log, idleInstances: limits.idleInstances });
  const { entries, emit, notify, isGood, isListed, settle, forget, wipe } = registry;
  const { begin, start } = createInstanceWork({ registry, maker, authorityOf, clock, log, limits, closing: closing.signal });
  const feeds = new WeakMap<Caller, IdentityFeed>();
  const warnedWithoutInstance = createRecentMap<true>(1000);
  const stopWatchingBindings = deps.bindings.onChange(rebound);

  /** Without a grant nothing is asked of any backend. */
  function authorityOf(entry: InstanceEntry): string {
    try {
      return policy.grant(entry.caller).authority;
    } catch {
      return '';
    }
  }

  function join(caller: Caller, name: string, mode: StreamedKeyMode, listener: () => void): () => void {
    let entry = entries.get(name);
    if (!entry) {
      entry = newEntry(name, { spiffeId: caller.spiffeId, instance: caller.instance ?? '' }, mode, caller);
      entries.set(name, entry);
    }
    const joined = entry;
    if (joined.mode !== mode) {
      wipe(joined);
      joined.mode = mode;
    }
    joined.caller = caller;
    // A subscription of its own, even if the same function subscribes twice.
    const own = (): void => {
      listener();
    };
    joined.listeners.add(own);
    if (!isGood(joined)) start(joined, false);
    // Half of its life may have passed while nobody listened: the scheduler sees to that, the old one is served meanwhile.
    else if (joined.listeners.size === 1 && !joined.making) settle(joined, false);
    return () => {
      if (!joined.listeners.delete(own) || joined.listeners.size > 0 || joined.making || !isListed(joined)) return;
      if (joined.held) emit(joined, { kind: 'idle', since: clock.now() });
      else forget(joined);
    };
  }

  function rebound(bearer: Bearer): void {
    const entry = entries.get(bearerKey(bearer));
    if (entry?.mode !== 'csr') return;
    entry.epoch++;
    entry.refusals = 0;
    entry.refusedVersion = undefined;
    if (entry.listeners.size > 0) start(entry, false);
    else forget(entry);
  }

  return {
    feed(caller) {
      let mode: string;
      try {
        mode = policy.grant(caller).keyMode;
      } catch {
        return undefined;
      }
      if (mode !== 'server' && mode !== 'csr') return undefined;
      if (caller.instance === undefined) {
        if (!warnedWithoutInstance.get(caller.spiffeId))
          log.warn({ spiffeId: caller.spiffeId, issuer: caller.issuer }, instanceRequired(caller).message);
        warnedWithoutInstance.set(caller.spiffeId, true);
        return undefined;
      }
      const known = feeds.get(caller);
      if (known) return known;
      const name = bearerKey({ spiffeId: caller.spiffeId, instance: caller.instance });
      const feed = createFeed(name, {
        current: () => {
          const entry = entries.get(name);
          if (entry?.held && isGood(entry)) return entry.held.published;
          return entry?.absent ? 'absent' : 'pending';
        },
        subscribe: (listener) => join(caller, name, mode, listener),
      });
      feeds.set(caller, feed);
      return feed;
    },

    async renew({ spiffeId, instance }, signal) {
      const wanted = [...entries.values()].filter(
        (entry) =>
          entry.bearer.spiffeId === spiffeId && (instance === undefined || entry.bearer.instance === instance) && entry.listeners.size > 0,
      );
      const outcomes = await abortable(Promise.allSettled(wanted.map((entry) => begin(entry, true))), signal);
      const issued = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' && outcome.value ? [outcome.value] : []));
      const failures = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [SignetError.from(outcome.reason)] : []));
      const [first] = failures;
      if (!first) return issued;
      const message = `${String(failures.length)} of ${String(outcomes.length)} instances were not renewed: ${first.message}`;
      throw new SignetError(first.code, message, { cause: first });
    },

    renewNow(name, force) {
      const entry = entries.get(name);
      if (entry && entry.listeners.size > 0) start(entry, force);
    },

    dropIdle(name) {
      const entry = entries.get(name);
      if (entry?.listeners.size === 0 && !entry.making) forget(entry);
    },

    nacked(bearer, nackClass, version) {
      const entry = entries.get(bearerKey(bearer));
      if (entry?.mode !== 'csr' || !entry.held || (nackClass !== 'key-mismatch' && nackClass !== 'key-missing')) return;
      const current = entry.held.published.version;
      // Each stream of the instance refuses the same version; it counts once.
      if ((version !== undefined && version !== current) || entry.refusedVersion === current) return;
      entry.refusedVersion = current;
      entry.refusals++;
      emit(entry, { kind: 'pending-key', refusals: entry.refusals });
    },

    acknowledged(bearer) {
      const entry = entries.get(bearerKey(bearer));
      if (!entry || entry.refusals === 0) return;
      entry.refusals = 0;
      entry.refusedVersion = undefined;
      // Back to renewing at half-life: signing anew is no longer called for.
      if (entry.listeners.size > 0 && !entry.making) settle(entry, false);
    },

    refuse(id) {
      for (const entry of [...entries.values()]) {
        if (entry.bearer.spiffeId !== id) continue;
        wipe(entry);
        entry.absent = true;
        settle(entry, false);
        notify(entry);
      }
    },

    readmit(id) {
      for (const entry of entries.values()) if (entry.bearer.spiffeId === id && entry.listeners.size > 0) start(entry, false);
    },

    rebound,
    observe: registry.observe,
    list: () => [...entries.values()].map((entry) => viewOf(entry, clock.now())),
    get(bearer) {
      const entry = entries.get(bearerKey(bearer));
      return entry && viewOf(entry, clock.now());
    },
    close() {
      stopWatchingBindings();
      closing.abort(new SignetError('CANCELLED', 'the server is stopping'));
      registry.close();
    },
  };
}

/** The key is short, stable, and another's for another instance. */
function createFeed(name: string, feed: Pick<IdentityFeed, 'current' | 'subscribe'>): IdentityFeed {
  let key: string | undefined;
  return {
    type: 'identity',
    get key() {
      key ??= `identity:${createHash('sha256').update(name).digest('hex').slice(0, 16)}`;
      return key;
    },
    ...feed,
  };
}
