import type { Clock } from '../base/clock.ts';
import { abortable, deadlineSignal } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { InstanceEntry } from './instance-entry.ts';
import { isLive } from './instance-identity.ts';
import type { IdentityMaker, MadeIdentity } from './instance-identity.ts';
import type { InstanceRegistry } from './instance-registry.ts';
import type { Issued } from './issuer.ts';
import { createWorkQueue } from './work-queue.ts';
import type { WorkQueue } from './work-queue.ts';

export interface InstanceCertificatesLimits {
  /** Certificates in the making for streams at one moment by each CA backend; the rest wait their turn. */
  readonly concurrency: number;
  readonly attemptTimeoutMs: number;
  /** Instances that are kept for a while after their last stream has ended; beyond that the longest gone go at once. */
  readonly idleInstances: number;
}

export const defaultInstanceCertificatesLimits: InstanceCertificatesLimits = {
  concurrency: 64,
  attemptTimeoutMs: 10_000,
  idleInstances: 10_000,
};

const shortestAttemptMs = 1000;
/** Of what is left of a certificate, one attempt may take at most this share: a hanging CA must leave time for more. */
const attemptShare = 0.25;

/** Makes the next certificate of an instance: at most one at a time for each, and a bounded number in all. */
export interface InstanceWork {
  /** Rejects with what the attempt failed of; that is on the log and scheduled by then. Undefined if no certificate was called for. */
  readonly begin: (entry: InstanceEntry, force: boolean) => Promise<Issued | undefined>;
  readonly start: (entry: InstanceEntry, force: boolean) => void;
}

export function createInstanceWork(deps: {
  readonly registry: InstanceRegistry;
  readonly maker: IdentityMaker;
  /** The name of the CA backend that makes this instance's certificates. */
  readonly authorityOf: (entry: InstanceEntry) => string;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: InstanceCertificatesLimits;
  readonly closing: AbortSignal;
}): InstanceWork {
  const { maker, clock, log, limits, closing } = deps;
  const { emit, notify, isGood, isListed, settle, wipe } = deps.registry;
  /** By CA backend: those who wait for one that hangs must not stand before those whose own is well. */
  const queues = new Map<string, WorkQueue>();

  function queueOf(entry: InstanceEntry): WorkQueue {
    const name = deps.authorityOf(entry);
    const known = queues.get(name);
    if (known) return known;
    const queue = createWorkQueue(limits.concurrency);
    queues.set(name, queue);
    return queue;
  }

  /** Starts the next certificate unless one is in the making already. Never rejects by itself: failures are scheduled. */
  function begin(entry: InstanceEntry, force: boolean): Promise<Issued | undefined> {
    entry.making ??= queueOf(entry).run(() => work(entry, force), isLive(entry));
    return entry.making;
  }

  function start(entry: InstanceEntry, force: boolean): void {
    begin(entry, force).catch(() => undefined);
  }

  async function work(entry: InstanceEntry, force: boolean): Promise<Issued | undefined> {
    for (;;) {
      const { epoch } = entry;
      let made: MadeIdentity | SignetError;
      try {
        made = await attempt(entry, force);
      } catch (error) {
        made = SignetError.from(error);
      }
      // The ground moved meanwhile: what was made is for another key, or for nobody.
      if (entry.epoch !== epoch && isListed(entry)) continue;
      entry.making = undefined;
      if (!isListed(entry)) return undefined;
      if (made instanceof SignetError) {
        failed(entry, made);
        throw made;
      }
      return took(entry, made);
    }
  }

  /** Asynchronous even where it fails at once: `making` must have been set by the time it is cleared. */
  async function attempt(entry: InstanceEntry, force: boolean): Promise<MadeIdentity> {
    const left = entry.held ? entry.held.issued.notAfter - clock.now() : 0;
    const most = left > 0 ? Math.max(shortestAttemptMs, left * attemptShare) : Infinity;
    const signal = deadlineSignal(Math.ceil(Math.min(limits.attemptTimeoutMs, most)), closing);
    return abortable(maker.make(entry, force, signal), signal);
  }

  function took(entry: InstanceEntry, made: MadeIdentity): Issued | undefined {
    entry.failures = 0;
    if (made === 'absent') {
      const changed = entry.held !== undefined || !entry.absent;
      wipe(entry);
      entry.absent = true;
      settle(entry, false);
      if (changed) notify(entry);
      return undefined;
    }
    if (made === 'unchanged') {
      settle(entry, false);
      return undefined;
    }
    entry.held = made.held;
    entry.absent = false;
    const { issued } = made.held;
    const { serial, spiffeId, instance, authority, notAfter } = issued.record;
    log.info({ spiffeId, instance, serial, authority, notAfter, keyMode: entry.mode }, 'certificate issued');
    if (made.ageing !== undefined) {
      log.warn({ spiffeId, instance, keyEnds: made.ageing }, 'the bound key nears its greatest age: make a new key and bind it');
      emit(entry, { kind: 'key-ageing', keyEnds: made.ageing });
    }
    notify(entry);
    settle(entry, true);
    return issued;
  }

  function failed(entry: InstanceEntry, error: SignetError): void {
    const { spiffeId, instance } = entry.bearer;
    entry.failures++;
    const notAfter = isGood(entry) ? entry.held?.issued.notAfter : undefined;
    // A fleet without its CA for hours must not fill the disk: the first tries, and then ever fewer, are worth a warning.
    const level = Number.isInteger(Math.log2(entry.failures)) ? 'warn' : 'debug';
    log[level](
      { spiffeId, instance, code: error.code, failures: entry.failures, notAfter, err: error },
      'no new certificate; the one held is kept until its end',
    );
    // Not to be cured by trying again, and not to be served meanwhile.
    const refused = error.code === 'IDENTITY_DENIED' || error.code === 'PERMISSION_DENIED';
    emit(entry, { kind: 'failed', code: error.code, failures: entry.failures, notAfter, retryAfterMs: patienceMs(error, notAfter) });
    if (refused) {
      wipe(entry);
      entry.absent = true;
      settle(entry, false);
      notify(entry);
    } else if (entry.listeners.size === 0) {
      settle(entry, false);
    }
  }

  /**
   * How long to wait before the next try, if told to. What a CA asks for is held to by its guard, so that coming early costs
   * it nothing; near the end of the certificate that is what keeps a long hold, or a wrong one, from being its end.
   */
  function patienceMs({ code, retryAfterMs }: SignetError, notAfter: number | undefined): number | undefined {
    if (retryAfterMs === undefined || (code !== 'AUTHORITY_THROTTLED' && code !== 'AUTHORITY_UNAVAILABLE')) return retryAfterMs;
    return Math.min(retryAfterMs, Math.max(shortestAttemptMs, notAfter === undefined ? 0 : (notAfter - clock.now()) * attemptShare));
  }

  return { begin, start };
}
