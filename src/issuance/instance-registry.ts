import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { CertificateEvent, CertificateHappening, InstanceEntry } from './instance-entry.ts';

/** The instances that are known, and who is told of what happens to them. */
export interface InstanceRegistry {
  readonly entries: Map<string, InstanceEntry>;
  readonly emit: (entry: InstanceEntry, happening: CertificateHappening) => void;
  /** Tells the subscribers that `current` changed. */
  readonly notify: (entry: InstanceEntry) => void;
  /** Whether a certificate is held that has not ended. */
  readonly isGood: (entry: InstanceEntry) => boolean;
  readonly isListed: (entry: InstanceEntry) => boolean;
  readonly settle: (entry: InstanceEntry, fresh: boolean) => void;
  readonly forget: (entry: InstanceEntry) => void;
  readonly wipe: (entry: InstanceEntry) => void;
  readonly observe: (listener: (event: CertificateEvent) => void) => () => void;
  readonly close: () => void;
}

export function createInstanceRegistry(deps: {
  readonly clock: Clock;
  readonly log: Log;
  /** How many instances without subscribers are kept at most. */
  readonly idleInstances: number;
}): InstanceRegistry {
  const { clock, log } = deps;
  const entries = new Map<string, InstanceEntry>();
  /** Names of those whose last subscriber left, the longest gone first. An instance's name may be the client's own word. */
  const idle = new Set<string>();
  const observers = new Set<(event: CertificateEvent) => void>();

  function emit(entry: InstanceEntry, happening: CertificateHappening): void {
    const event: CertificateEvent = { name: entry.name, bearer: entry.bearer, mode: entry.mode, ...happening };
    for (const observer of [...observers]) observer(event);
    idle.delete(entry.name);
    if (event.kind === 'idle') {
      idle.add(entry.name);
      dropSurplus();
    }
  }

  function dropSurplus(): void {
    for (const name of idle) {
      if (idle.size <= deps.idleInstances) return;
      idle.delete(name);
      const entry = entries.get(name);
      if (entry?.listeners.size === 0 && !entry.making) forget(entry);
    }
  }

  function notify(entry: InstanceEntry): void {
    for (const listener of [...entry.listeners]) {
      try {
        listener();
      } catch (error) {
        // One subscriber's fault must not keep the others, or the next renewal, from happening.
        log.error({ spiffeId: entry.bearer.spiffeId, err: error }, 'a subscriber to a certificate failed');
      }
    }
  }

  function isGood(entry: InstanceEntry): boolean {
    return entry.held !== undefined && entry.held.issued.notAfter > clock.now();
  }

  function isListed(entry: InstanceEntry): boolean {
    return entries.get(entry.name) === entry;
  }

  /** Tells the scheduler where an instance stands. */
  function settle(entry: InstanceEntry, fresh: boolean): void {
    const { held } = entry;
    if (held) {
      const { issuedAt, notBefore, notAfter } = held.issued.record;
      emit(entry, { kind: 'published', serial: held.published.version, issuedAt, notBefore, notAfter, final: held.final, fresh });
      if (entry.refusedVersion === held.published.version) emit(entry, { kind: 'pending-key', refusals: entry.refusals });
    }
    if (entry.listeners.size > 0) {
      if (!held) emit(entry, { kind: 'gone' });
    } else if (held) {
      emit(entry, { kind: 'idle', since: clock.now() });
    } else {
      forget(entry);
    }
  }

  function forget(entry: InstanceEntry): void {
    wipe(entry);
    entries.delete(entry.name);
    emit(entry, { kind: 'gone' });
  }

  /** Drops key and certificate, and makes any work under way worthless. */
  function wipe(entry: InstanceEntry): void {
    entry.epoch++;
    entry.held = undefined;
    entry.failures = 0;
    entry.refusals = 0;
    entry.refusedVersion = undefined;
  }

  return {
    entries,
    emit,
    notify,
    isGood,
    isListed,
    settle,
    forget,
    wipe,
    observe(listener) {
      observers.add(listener);
      return () => {
        observers.delete(listener);
      };
    },
    close() {
      for (const entry of entries.values()) wipe(entry);
      entries.clear();
      idle.clear();
      observers.clear();
    },
  };
}
