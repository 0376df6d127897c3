import { endOf } from './intermediate-document.ts';
import type { IntermediateDocument } from './intermediate-document.ts';

export type Due =
  | { readonly step: 'nothing' }
  /** A new intermediate has to be asked for. */
  | { readonly step: 'renew'; readonly why: 'first' | 'half of its life' | 'its root is no longer named' }
  /** The next one, which is there already, is to be used. */
  | { readonly step: 'activate' };

export interface DueRules {
  /**
   * The point of an intermediate's life at which it is renewed: about a half, drawn by each process, so that replicas don't
   * all ask at once.
   */
  readonly share: number;
  /** Whether the operator lets this root be trusted. */
  readonly mayTrust: (root: Buffer) => boolean;
}

/** What is to be done now. */
export function due({ current, next, anchors }: IntermediateDocument, now: number, { share, mayTrust }: DueRules): Due {
  const hasEnded = !current || now >= endOf(current);
  if (next && now < endOf(next)) {
    // One that waits for approval is not asked for again: it would be another one that waits.
    return mayTrust(next.root) && (hasEnded || now >= next.from) ? { step: 'activate' } : { step: 'nothing' };
  }
  if (!current) return { step: 'renew', why: 'first' };
  if (now >= current.madeAt + (endOf(current) - current.madeAt) * share) return { step: 'renew', why: 'half of its life' };
  const named = anchors.some(({ certificate }) => certificate.equals(current.root));
  return named ? { step: 'nothing' } : { step: 'renew', why: 'its root is no longer named' };
}
