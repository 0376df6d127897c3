import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { sha256Hex } from '../x509/keys.ts';
import type { CheckedAnchors } from '../x509/material.ts';
import { checkAnchors } from '../x509/preflight.ts';
import type { PublishedBundle } from './trust-bundle.ts';

export interface ActiveAnchors {
  /** The anchors that a new certificate may chain to: those of the bundle that whoever is connected has taken. */
  current(): CheckedAnchors;
  /** Resolves once all of these (DER) that are in the bundle are active. Rejects as the signal aborts. */
  whenActive(anchors: readonly Buffer[], signal: AbortSignal): Promise<void>;
  close(): void;
}

export interface ActiveAnchorsDeps {
  /** The bundle in force; undefined if there is none yet. */
  readonly bundle: () => PublishedBundle | undefined;
  readonly subscribe: (listener: () => void) => () => void;
  /** How many connected streams have not acknowledged this generation of the bundle or a later one. */
  readonly lagging: (generation: number) => number;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits?: Partial<ActivationLimits>;
}

export interface ActivationLimits {
  /** Who is between two connections just now comes back within this time, in ms. */
  readonly settleMs: number;
  /** Likewise after a start, when all of them come back. */
  readonly restartSettleMs: number;
  /** After this time nobody is waited for any more: somebody else's CA has moved, and those who lag can't hold up all others. */
  readonly patienceMs: number;
}

export const defaultActivationLimits: ActivationLimits = { settleMs: 2000, restartSettleMs: 10_000, patienceMs: 60_000 };
const lookEveryMs = 50;

interface Pending {
  readonly generation: number;
  readonly since: number;
}

/**
 * Bundle first, then issuance: a root that has just entered the bundle is held back from new certificates until the
 * streams that are connected have acknowledged it. What was in the bundle when this was made is active.
 */
export function createActiveAnchors(deps: ActiveAnchorsDeps): ActiveAnchors {
  const { clock, log } = deps;
  const limits = { ...defaultActivationLimits, ...deps.limits };
  const startedAt = clock.now();
  const pending = new Map<string, Pending>();
  let known = new Set(hashesOf(deps.bundle()));
  let lookedAt = Number.NEGATIVE_INFINITY;
  let active: { readonly of: PublishedBundle; readonly held: string; readonly anchors: CheckedAnchors } | undefined;

  function changed(): void {
    const bundle = deps.bundle();
    if (!bundle) return;
    const hashes = hashesOf(bundle);
    // Nobody has an older bundle before the first one.
    const first = known.size === 0;
    for (const hash of hashes) {
      if (!known.has(hash) && !first) pending.set(hash, { generation: bundle.generation, since: clock.now() });
    }
    known = new Set(hashes);
    for (const hash of pending.keys()) if (!known.has(hash)) pending.delete(hash);
    lookedAt = Number.NEGATIVE_INFINITY;
  }

  function look(): void {
    const now = clock.now();
    if (now >= lookedAt && now - lookedAt < lookEveryMs) return;
    lookedAt = now;
    for (const [hash, { generation, since }] of pending) {
      const age = now - since;
      // A clock that was set back must not hold it for ever.
      if ((age < limits.settleMs || now - startedAt < limits.restartSettleMs) && age >= 0) continue;
      const lagging = deps.lagging(generation);
      if (lagging > 0 && age < limits.patienceMs && age >= 0) continue;
      if (lagging > 0) log.warn({ sha256: hash, generation, lagging }, 'a new root is used although not every stream has acknowledged it');
      else log.info({ sha256: hash, generation }, 'every connected stream has the new root: it is used from now on');
      pending.delete(hash);
    }
  }

  const stop = deps.subscribe(changed);
  changed();

  return {
    current() {
      const bundle = deps.bundle();
      if (!bundle) throw new Error('there is no bundle yet');
      if (pending.size > 0) look();
      if (pending.size === 0) return bundle.anchors;
      const held = [...pending.keys()].join();
      if (active?.of !== bundle || active.held !== held) {
        const usable = bundle.anchors.certificates.filter((der) => !pending.has(sha256Hex(der)));
        if (usable.length === 0)
          throw new SignetError('AUTHORITY_UNAVAILABLE', 'every root is new and on its way to everybody: try again', {
            retryAfterMs: 1000,
          });
        active = { of: bundle, held, anchors: checkAnchors(usable, clock.now()) };
      }
      return active.anchors;
    },
    async whenActive(anchors, signal) {
      const hashes = anchors.map((der) => sha256Hex(der));
      for (;;) {
        look();
        if (!hashes.some((hash) => pending.has(hash))) return;
        await sleep(lookEveryMs, undefined, { signal });
      }
    },
    close: stop,
  };
}

function hashesOf(bundle: PublishedBundle | undefined): string[] {
  return bundle?.anchors.certificates.map((der) => sha256Hex(der)) ?? [];
}
