import { abortable, deadlineSignal } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';

/** Work on one token that is done once, however many wait for it. */
export interface SharedReviews<T> {
  /**
   * What is under way for this key, or else `work` begun. It has a deadline of its own: who began it may go away, and the
   * others still wait. Rejects with what `work` throws, or IDENTITY_SOURCE_UNAVAILABLE.
   */
  of(key: string, work: (signal: AbortSignal) => Promise<T>): Promise<T>;
}

const reviewMs = 5000;
/** So many wait only if the API server is slow: no use in asking it for more. */
const mostReviews = 2048;

export function createSharedReviews<T>(closed: AbortSignal): SharedReviews<T> {
  const underWay = new Map<string, Promise<T>>();

  async function bounded(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const signal = deadlineSignal(reviewMs, closed);
    try {
      return await abortable(work(signal), signal);
    } catch (error) {
      throw signal.aborted ? unavailable(error) : error;
    }
  }

  return {
    of(key, work) {
      const known = underWay.get(key);
      if (known) return known;
      if (underWay.size >= mostReviews) return Promise.reject(unavailable(new Error(`${mostReviews} reviews are under way`)));
      const review = bounded(work).finally(() => underWay.delete(key));
      underWay.set(key, review);
      return review;
    },
  };
}

function unavailable(cause: unknown): SignetError {
  return new SignetError('IDENTITY_SOURCE_UNAVAILABLE', 'the cluster that could verify this token does not answer now', {
    cause,
    retryAfterMs: 1000,
  });
}
