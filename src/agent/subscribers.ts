import type { Nack } from '../ledger/delivery.ts';
import type { Ledger } from '../ledger/ledger.ts';

/** What a workload's own subscribers, the Envoys on its socket, made of one version of its trust. */
export type Standing =
  /** All that have trust at all have taken this version. */
  | { readonly kind: 'taken' }
  /** No open stream was ever sent trust. Whether somebody is about to come back, and holds something older, only time tells. */
  | { readonly kind: 'nobody' }
  | { readonly kind: 'refused'; readonly nack: Nack }
  /** So many have not said yet. */
  | { readonly kind: 'waiting'; readonly laggards: number };

/**
 * Judged by each open stream that was ever sent trust: one that only has a certificate says nothing of it, and one that
 * was sent nothing yet is going to be sent this version or a later one.
 */
export function standingOf(ledger: Pick<Ledger, 'streams'>, feedKey: string, version: string): Standing {
  let laggards = 0;
  let subscribers = 0;
  for (const { secrets } of ledger.streams()) {
    for (const secret of secrets) {
      if (secret.key !== feedKey) continue;
      subscribers++;
      if (secret.version === version && secret.nack) return { kind: 'refused', nack: secret.nack };
      if (secret.version !== version || secret.state !== 'acknowledged') laggards++;
    }
  }
  if (laggards > 0) return { kind: 'waiting', laggards };
  return { kind: subscribers > 0 ? 'taken' : 'nobody' };
}
