import type { Clock, Random } from '../base/clock.ts';
import type { DeadlineHeap } from '../base/deadline-heap.ts';
import type { Log } from '../base/log.ts';
import { renewAt, resignAt, retryAt } from './leaf-renewal.ts';

/** What happened to a certificate, as far as its next renewal depends on it. Times in ms since the epoch. */
export type RenewalEvent = { readonly name: string } & (
  | {
      readonly kind: 'published';
      readonly issuedAt: number;
      readonly notBefore: number;
      readonly notAfter: number;
      /** A later one for its key could not end later. */
      readonly final: boolean;
    }
  | {
      readonly kind: 'failed';
      /** In a row, at least 1. */
      readonly failures: number;
      /** End of the certificate still held. */
      readonly notAfter: number | undefined;
      readonly retryAfterMs: number | undefined;
      /** Never wait longer than this for the next try, unless told to: who is away may be back at any moment. */
      readonly longestRetryMs?: number;
    }
  | { readonly kind: 'pending-key'; readonly refusals: number }
  | { readonly kind: 'key-ageing' }
  | { readonly kind: 'idle'; readonly since: number }
  | { readonly kind: 'gone' }
);

/** What is renewed: issuance's certificates of instances, or an agent's of its workloads. */
export interface RenewableCertificates {
  observe(listener: (event: RenewalEvent) => void): () => void;
  renewNow(name: string, force: boolean): void;
  dropIdle(name: string): void;
}

export interface Renewer {
  /** When something is next due for this instance (`bearerKey`), in ms since the epoch. */
  dueAt(name: string): number | undefined;
  /** Looks whether the clock was set, and plans anew if so. Its own timer calls it each second. */
  checkClock(): void;
  readonly size: number;
  close(): void;
}

export interface RenewerDeps {
  readonly heap: DeadlineHeap;
  readonly clock: Clock;
  readonly random: Random;
  readonly certificates: RenewableCertificates;
  readonly log: Log;
  /** How long a key and certificate are kept for an instance that is gone. Default 5 min. */
  readonly idleGraceMs?: number;
}

type Action = 'renew' | 'resign' | 'drop';

interface Plan {
  readonly at: number;
  /** How far off it was when it was made: what a wait means, whatever the clock is set to. */
  readonly delayMs: number;
  readonly action: Action;
  /** Of the certificate held: before it, nobody accepts it. */
  readonly notBefore: number | undefined;
  readonly cancel: () => void;
}

const clockCheckMs = 1000;
/** Less than this is a timer's lateness, not a clock that was set. */
const stepMs = 500;
/** After the clock was set back, what is not valid yet is replaced within this time. */
const replaceWithinMs = 1000;

/** Decides when each certificate is renewed, tried again, or forgotten: one deadline per instance, on the process's one heap. */
export function createRenewer(deps: RenewerDeps): Renewer {
  const { heap, clock, random, certificates, log } = deps;
  const idleGraceMs = deps.idleGraceMs ?? 300_000;
  const plans = new Map<string, Plan>();
  let lastSeen = clock.now();
  const stopObserving = certificates.observe(plan);
  const timer = setInterval(checkClock, clockCheckMs);
  timer.unref();

  function plan(event: RenewalEvent): void {
    const { name } = event;
    const now = clock.now();
    switch (event.kind) {
      case 'published': {
        // A key's last certificate is not renewed; a second after it, when the key has ended too, the end is noted.
        const at = event.final ? event.notAfter + 1000 : renewAt({ issuedAt: event.issuedAt, notAfter: event.notAfter, random });
        set(name, at, 'renew', event.notBefore);
        break;
      }
      case 'failed': {
        const { notAfter, failures, longestRetryMs } = event;
        const at = retryAt({ now, notAfter, failures, random, ...(longestRetryMs === undefined ? {} : { longestMs: longestRetryMs }) });
        set(name, Math.max(at, now + (event.retryAfterMs ?? 0)), 'renew', undefined);
        break;
      }
      case 'pending-key': {
        const at = resignAt({ now, refusals: event.refusals, random });
        const planned = plans.get(name);
        if (!planned || at < planned.at) set(name, at, 'resign', planned?.notBefore);
        break;
      }
      case 'idle':
        set(name, event.since + idleGraceMs, 'drop', undefined);
        break;
      case 'gone':
        plans.get(name)?.cancel();
        plans.delete(name);
        break;
      case 'key-ageing':
        break;
    }
  }

  function set(name: string, at: number, action: Action, notBefore: number | undefined): void {
    plans.get(name)?.cancel();
    const cancel = heap.at(at, () => {
      plans.delete(name);
      if (action === 'drop') certificates.dropIdle(name);
      else certificates.renewNow(name, action === 'resign');
    });
    plans.set(name, { at, delayMs: at - clock.now(), action, notBefore, cancel });
  }

  function checkClock(): void {
    const now = clock.now();
    const moved = now - lastSeen;
    lastSeen = now;
    if (moved < -stepMs) {
      log.warn({ byMs: -moved, instances: plans.size }, 'the clock was set back');
      replan(now);
    } else if (moved > clockCheckMs + stepMs) {
      // What came due by the step need not wait until the heap's timer wakes.
      heap.runDue();
    }
  }

  /** Ends stay where they are, but waits counted from a time that is now in the future would become longer by the step. */
  function replan(now: number): void {
    for (const [name, { at, delayMs, action, notBefore }] of [...plans]) {
      if (action === 'renew' && notBefore !== undefined) {
        if (notBefore > now) set(name, now + Math.round(replaceWithinMs * random()), 'renew', undefined);
      } else if (at > now + delayMs) {
        set(name, now + delayMs, action, notBefore);
      }
    }
  }

  return {
    dueAt: (name) => plans.get(name)?.at,
    checkClock,
    get size() {
      return plans.size;
    },
    close() {
      stopObserving();
      clearInterval(timer);
      for (const { cancel } of plans.values()) cancel();
      plans.clear();
    },
  };
}
