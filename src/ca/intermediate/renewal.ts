import { endOf } from './intermediate-document.ts';
import type { IntermediateDocument } from './intermediate-document.ts';

export type Due =
  | { readonly step: 'nothing' }
  /** A new intermediate has to be asked for. */
  | { readonly step: 'renew'; readonly why: 'first' | 'half of its life' | 'its root is no longer named' }
  /** The next one, which is there already, is to be used. */
  | { readonly step: 'activate' };

/**
 * What is to be done now. `share` is the point of an intermediate's life at which it is renewed: about a half, drawn by
 * each process, so that replicas don't all ask at once.
 */
export function due(document: IntermediateDocument | undefined, now: number, share: number): Due {
  const current = document?.current;
  if (!current) return { step: 'renew', why: 'first' };
  if (document.next) return now >= document.next.from || now >= endOf(current) ? { step: 'activate' } : { step: 'nothing' };
  if (now >= current.madeAt + (endOf(current) - current.madeAt) * share) return { step: 'renew', why: 'half of its life' };
  const named = document.anchors.some(({ certificate }) => certificate.equals(current.root));
  return named ? { step: 'nothing' } : { step: 'renew', why: 'its root is no longer named' };
}
