import { abortable, deadlineSignal } from '../base/deadline.ts';
import type { Clock } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { BucketLimits } from '../base/token-bucket.ts';
import { bearerKey } from '../identity/caller.ts';
import type { Bearer, Caller } from '../identity/caller.ts';
import { checkKeyDirectory } from '../policy/key-directory.ts';
import type { Policy } from '../policy/policy.ts';
import { parseSpiffeId } from '../spiffe/id.ts';
import type { Binding, IssuedRecord, Page, Store } from '../store/store.ts';
import { parseCsr } from '../x509/csr.ts';
import type { IssuanceGate } from './issuance-gate.ts';
import { createKeyedQueue } from './keyed-queue.ts';
import { createRateLimiter } from './rate-limiter.ts';
import type { Recorder } from './recorder.ts';
import { checkRequestedNames, nameRequired } from './requested-names.ts';
import { instanceRequired } from './issuer.ts';

/** A key that was bound before and still has certificates that are valid. */
export interface SupersededKey {
  readonly spkiSha256: string;
  /** When its last certificate ends. */
  readonly ends: number;
  readonly serials: readonly string[];
}

export interface Bindings {
  /**
   * Binds the key of this request to the caller's instance, replacing a binding of the same identity and instance.
   * Durable, and on the audit record, when it resolves. Throws PERMISSION_DENIED, IDENTITY_DENIED, INSTANCE_REQUIRED,
   * INVALID_CSR, CSR_NAME_REQUIRED, INVALID_ARGUMENT, RATE_LIMITED or BINDING_CONFLICT.
   */
  bind(caller: Caller, csr: Buffer | string, keyDirectory: string, signal: AbortSignal): Promise<Binding>;
  /** False if there was none. */
  unbind(bearer: Bearer, actor: string, signal: AbortSignal): Promise<boolean>;
  get(bearer: Bearer, signal: AbortSignal): Promise<Binding | undefined>;
  list(limit: number, after?: string): Promise<Page<Binding>>;
  /** Keys bound earlier to this bearer whose certificates have not all ended. */
  superseded(bearer: Bearer, signal: AbortSignal): Promise<readonly SupersededKey[]>;
  /** Notes that the binding was signed again; written down at most once in `usedResolutionMs`. */
  used(binding: Binding, signal: AbortSignal): Promise<void>;
  /** Drops bindings that were not used for `unusedAfterMs`, or whose key is past its greatest age. How many went. */
  pruneUnused(signal: AbortSignal): Promise<number>;
  /** Called after a binding was made or taken away. Returns how to stop. */
  onChange(listener: (bearer: Bearer) => void): () => void;
}

export interface BindingsLimits {
  /** Binds of one instance. */
  readonly perInstance: BucketLimits;
  /** Binds of one identity over all instances: an instance's name may be the client's own word. */
  readonly perIdentity: BucketLimits;
  readonly rateEntries: number;
  readonly storeTimeoutMs: number;
  readonly unusedAfterMs: number;
  readonly usedResolutionMs: number;
}

export const defaultBindingsLimits: BindingsLimits = {
  perInstance: { perSecond: 0.1, burst: 10 },
  perIdentity: { perSecond: 10, burst: 1000 },
  rateEntries: 50_000,
  storeTimeoutMs: 5000,
  // Or the longest life that policy gives, if that is longer: one in use is never taken for unused.
  unusedAfterMs: 14 * 86_400_000,
  usedResolutionMs: 3_600_000,
};

export interface BindingsDeps {
  readonly store: Store['bindings'];
  readonly issued: Pick<Store['issued'], 'list'>;
  readonly policy: Policy;
  readonly recorder: Pick<Recorder, 'audit'>;
  readonly gate: Pick<IssuanceGate, 'chargeTotal'>;
  /** Whether this backend, or one that signs in its stead, certifies what the CSR names and nothing else. */
  readonly namesFromCsr: (backend: string) => boolean;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits?: Partial<BindingsLimits>;
}

const pageSize = 200;
const mostRecordsLooked = 2000;

/** Which public key each instance in `csr` mode has bound, and where its private key is on Envoy's host. */
export function createBindings(deps: BindingsDeps): Bindings {
  const { store, policy, clock } = deps;
  const limits: BindingsLimits = { ...defaultBindingsLimits, ...deps.limits };
  const instanceRate = createRateLimiter('bindings', limits.perInstance, limits.rateEntries);
  const identityRate = createRateLimiter('bindings', limits.perIdentity, limits.rateEntries);
  const listeners = new Set<(bearer: Bearer) => void>();
  // Read, decide, write: one at a time for each bearer, so that a note of use never undoes a newer binding.
  const queue = createKeyedQueue();

  function stored<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
    return abortable(work, deadlineSignal(limits.storeTimeoutMs, signal));
  }

  function changed(bearer: Bearer): void {
    for (const listener of [...listeners]) listener(bearer);
  }

  async function replace(
    caller: Caller,
    instance: string,
    csr: Buffer,
    spkiSha256: string,
    directory: string,
    signal: AbortSignal,
  ): Promise<Binding> {
    const { spiffeId } = caller;
    const grant = policy.grant(caller);
    const before = await stored(store.get(spiffeId, instance), signal);
    if (before && before.issuer !== caller.issuer) {
      throw new SignetError(
        'BINDING_CONFLICT',
        'this instance was bound through another issuer: take that binding away first (signet certs unbind)',
      );
    }
    const now = clock.now();
    // A key does not become younger by being bound again, also not after another one or after its binding was dropped.
    const boundAt =
      before?.spkiSha256 === spkiSha256 ? before.boundAt : await firstSignedAt({ spiffeId, instance }, spkiSha256, now, signal);
    const keyEnds = boundAt + grant.keyMaxAgeMs;
    if (keyEnds <= now) throw new SignetError('BINDING_CONFLICT', 'this key has reached its greatest age: make a new key and bind that');
    const keyFile = `${directory}/${spkiSha256}.key`;
    const binding: Binding = { spiffeId, instance, issuer: caller.issuer, spkiSha256, csr, keyFile, boundAt, keyEnds, lastUsedAt: now };
    const detail = `key ${spkiSha256} file ${keyFile}${before && before.spkiSha256 !== spkiSha256 ? ` replaces ${before.spkiSha256}` : ''}`;
    // The audit entry first: a binding without one must not exist, the reverse is a failed attempt.
    await stored(
      deps.recorder.audit({
        at: now,
        actor: `${caller.issuer} ${caller.subject}`,
        action: 'key.bind',
        subject: `${spiffeId} ${instance}`,
        detail,
      }),
      signal,
    );
    // Told when it is durable, whether or not the client still waits: its streams must not go on with another key's chain.
    const told = store.put(binding).then(() => {
      changed({ spiffeId, instance });
    });
    await stored(told, signal);
    deps.log.info({ spiffeId, instance, spkiSha256, keyFile, keyEnds, replaces: before?.spkiSha256 }, 'key bound');
    return binding;
  }

  async function remove(bearer: Bearer, actor: string, action: string, signal: AbortSignal): Promise<boolean> {
    const { spiffeId, instance } = bearer;
    const before = await stored(store.get(spiffeId, instance), signal);
    if (!before) return false;
    const detail = `key ${before.spkiSha256} file ${before.keyFile}`;
    await stored(deps.recorder.audit({ at: clock.now(), actor, action, subject: `${spiffeId} ${instance}`, detail }), signal);
    const told = store.delete(spiffeId, instance).then((gone) => {
      if (gone) changed(bearer);
      return gone;
    });
    const deleted = await stored(told, signal);
    if (deleted) deps.log.info({ spiffeId, instance, spkiSha256: before.spkiSha256, action }, 'binding taken away');
    return deleted;
  }

  /** When this instance's certificates were first signed for this key, as far as records go back; now, if never. */
  async function firstSignedAt(bearer: Bearer, spkiSha256: string, now: number, signal: AbortSignal): Promise<number> {
    let first = now;
    for await (const record of recordsOf(bearer, undefined, signal)) {
      if (record.keyMode === 'csr' && record.spkiSha256 === spkiSha256) first = Math.min(first, record.issuedAt);
    }
    return first;
  }

  /** Newest first, a bounded number. */
  async function* recordsOf(bearer: Bearer, unexpiredAt: number | undefined, signal: AbortSignal): AsyncGenerator<IssuedRecord, void> {
    const query = { ...bearer, limit: pageSize, ...(unexpiredAt === undefined ? {} : { unexpiredAt }) };
    let after: string | undefined;
    for (let looked = 0; looked < mostRecordsLooked; looked += pageSize) {
      const page = await stored(deps.issued.list(after === undefined ? query : { ...query, after }), signal);
      yield* page.items;
      after = page.next;
      if (after === undefined) return;
    }
  }

  function isStale(binding: Binding, now: number): boolean {
    return binding.keyEnds <= now || binding.lastUsedAt + unusedAfter(binding) <= now;
  }

  /** No certificate of the tier lives longer than that, so one in use is signed again before. */
  function unusedAfter({ spiffeId, issuer }: Binding): number {
    try {
      return Math.max(limits.unusedAfterMs, policy.grant({ spiffeId: parseSpiffeId(spiffeId), issuer }).maxTtlMs);
    } catch {
      return limits.unusedAfterMs;
    }
  }

  return {
    async bind(caller, csr, keyDirectory, signal) {
      const { spiffeId, instance } = caller;
      if (caller.authenticatedBy === 'certificate')
        throw new SignetError('PERMISSION_DENIED', 'a key is bound by token only, never by a certificate that was issued here');
      const grant = policy.grant(caller);
      if (grant.keyMode !== 'csr')
        throw new SignetError('PERMISSION_DENIED', `policy gives this identity key mode ${grant.keyMode}: only csr binds keys`);
      if (instance === undefined) throw instanceRequired(caller);
      const bearer: Bearer = { spiffeId, instance };
      const now = clock.now();
      instanceRate.take(bearerKey(bearer), now);
      identityRate.take(spiffeId, now);
      deps.gate.chargeTotal(now);
      const directory = checkKeyDirectory(keyDirectory, grant.keyDirectories);
      const request = parseCsr(csr);
      checkRequestedNames(request, spiffeId);
      if (request.uris.length === 0 && deps.namesFromCsr(grant.authority)) throw nameRequired(spiffeId);
      return queue.run(bearerKey(bearer), () => replace(caller, instance, request.der, request.key.spkiSha256, directory, signal));
    },

    unbind: (bearer, actor, signal) => queue.run(bearerKey(bearer), () => remove(bearer, actor, 'key.unbind', signal)),

    get: (bearer, signal) => stored(store.get(bearer.spiffeId, bearer.instance), signal),
    list: (limit, after) => store.list(limit, after),

    async superseded(bearer, signal) {
      const { spiffeId, instance } = bearer;
      const now = clock.now();
      const current = await stored(store.get(spiffeId, instance), signal);
      const keys = new Map<string, { ends: number; serials: string[] }>();
      for await (const record of recordsOf(bearer, now, signal)) {
        if (record.keyMode !== 'csr' || record.spkiSha256 === current?.spkiSha256) continue;
        const key = keys.get(record.spkiSha256) ?? { ends: 0, serials: [] };
        key.ends = Math.max(key.ends, record.notAfter);
        key.serials.push(record.serial);
        keys.set(record.spkiSha256, key);
      }
      return [...keys].map(([spkiSha256, key]) => ({ spkiSha256, ...key }));
    },

    async used(binding, signal) {
      const now = clock.now();
      if (now - binding.lastUsedAt < limits.usedResolutionMs) return;
      const { spiffeId, instance } = binding;
      await queue.run(bearerKey({ spiffeId: parseSpiffeId(spiffeId), instance }), async () => {
        const current = await stored(store.get(spiffeId, instance), signal);
        if (current?.spkiSha256 === binding.spkiSha256) await stored(store.put({ ...current, lastUsedAt: now }), signal);
      });
    },

    async pruneUnused(signal) {
      let pruned = 0;
      let after: string | undefined;
      do {
        const page = await stored(after === undefined ? store.list(pageSize) : store.list(pageSize, after), signal);
        for (const listed of page.items) {
          if (!isStale(listed, clock.now())) continue;
          const bearer: Bearer = { spiffeId: parseSpiffeId(listed.spiffeId), instance: listed.instance };
          const dropped = await queue.run(bearerKey(bearer), async () => {
            // Read again: it may have been bound or used since the page was read.
            const current = await stored(store.get(bearer.spiffeId, bearer.instance), signal);
            return current !== undefined && isStale(current, clock.now()) && (await remove(bearer, 'signet', 'key.drop-unused', signal));
          });
          if (dropped) pruned++;
        }
        after = page.next;
      } while (after !== undefined);
      return pruned;
    },

    onChange(listener) {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
      };
    },
  };
}
