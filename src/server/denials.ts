import type { Clock } from '../base/clock.ts';
import type { SdsService } from '../sds/service.ts';
import type { SpiffeId } from '../spiffe/id.ts';
import type { Store } from '../store/store.ts';

/** The identities that an operator stopped: durable in the store, answered from memory. */
export interface Denials {
  has(id: SpiffeId): boolean;
  /** Durable when it resolves, and only then in force for those who ask `has`. */
  deny(id: SpiffeId, reason: string): Promise<void>;
  lift(id: SpiffeId): Promise<boolean>;
  onChange(listener: (id: SpiffeId) => void): () => void;
}

export async function openDenials(store: Pick<Store, 'denials' | 'audit'>, clock: Clock): Promise<Denials> {
  const denied = new Set<string>((await store.denials.list()).map((denial) => denial.spiffeId));
  const listeners = new Set<(id: SpiffeId) => void>();
  const audit = (action: string, subject: string, detail: string): Promise<void> =>
    store.audit.append([{ at: clock.now(), actor: 'operator', action, subject, detail }]);

  function notify(id: SpiffeId): void {
    for (const listener of listeners) listener(id);
  }

  return {
    has: (id) => denied.has(id),
    async deny(id, reason) {
      // The audit entry first: a denial without one must not exist, the reverse is a failed attempt.
      await audit('deny', id, reason);
      await store.denials.put({ spiffeId: id, at: clock.now(), reason });
      denied.add(id);
      notify(id);
    },
    async lift(id) {
      await audit('lift-denial', id, '');
      const lifted = await store.denials.delete(id);
      denied.delete(id);
      notify(id);
      return lifted;
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** The operator's stop button: a denial also ends the streams that are open. */
export function stopButton(denials: Denials, store: Pick<Store, 'denials'>, sds: Pick<SdsService, 'endStreams'>) {
  return {
    list: () => store.denials.list(),
    /** How many streams it ended. */
    async deny(id: SpiffeId, reason: string): Promise<number> {
      await denials.deny(id, reason);
      return sds.endStreams((caller) => caller.spiffeId === id);
    },
    lift: denials.lift,
  };
}
