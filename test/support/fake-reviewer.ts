import { SignetError } from '../../src/base/errors.ts';
import { readReview } from '../../src/identity/token-review.ts';
import type { Review, TokenReviewer } from '../../src/identity/token-review.ts';

export type ReviewStatus = Parameters<typeof readReview>[0];

/** Says of each token what the test tells it to, in the words of an API server, instead of asking one. */
export interface FakeReviewer extends TokenReviewer {
  /** Undefined: it is away. */
  status: ReviewStatus | undefined;
  /** Set: it answers when this is resolved. */
  held: Promise<unknown> | undefined;
  readonly asked: { readonly token: string; readonly audiences: readonly string[] }[];
}

export function fakeReviewer(status?: ReviewStatus): FakeReviewer {
  const fake: FakeReviewer = {
    status,
    held: undefined,
    asked: [],
    async review(token, audiences): Promise<Review> {
      fake.asked.push({ token, audiences });
      await fake.held;
      if (!fake.status) throw new SignetError('IDENTITY_SOURCE_UNAVAILABLE', 'away', { retryAfterMs: 1000 });
      return readReview(fake.status, audiences);
    },
  };
  return fake;
}
