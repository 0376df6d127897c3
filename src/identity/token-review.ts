import { z } from 'zod';
import { SignetError } from '../base/errors.ts';
import { harmless } from '../base/harmless.ts';
import type { ApiFailure } from '../kubernetes/answer.ts';
import type { KubernetesClient } from '../kubernetes/client.ts';
import { authenticationFailed, shown } from './authentication-failure.ts';
import type { JsonObject } from './json-pointer.ts';

/** What an API server says of a token. */
export interface Review {
  /** `system:serviceaccount:NAMESPACE:NAME` */
  readonly subject: string;
  /** Which of those that were asked for the token is good for: one at least. */
  readonly audiences: readonly string[];
  /** The answer in the shape of a projected token's claims, so that `path` and `instance` are what they are for other issuers. */
  readonly claims: JsonObject;
}

export interface TokenReviewer {
  /**
   * One TokenReview. Throws UNAUTHENTICATED when the API server says no, IDENTITY_SOURCE_UNAVAILABLE when it says nothing,
   * or refuses us instead of the token.
   */
  review(token: string, audiences: readonly string[], signal: AbortSignal): Promise<Review>;
}

/** authentication.k8s.io/v1 (https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/) */
const answerSchema = z.object({
  status: z.object({
    authenticated: z.boolean().optional(),
    error: z.string().optional(),
    audiences: z.array(z.string()).nullish(),
    user: z
      .object({
        username: z.string().optional(),
        uid: z.string().optional(),
        extra: z.record(z.string(), z.array(z.string())).nullish(),
      })
      .optional(),
  }),
});
type Status = z.output<typeof answerSchema>['status'];

const accountUser = /^system:serviceaccount:([^:]{1,253}):([^:]{1,253})$/;
const extraPrefix = 'authentication.kubernetes.io/';

export function createTokenReviewer(client: KubernetesClient): TokenReviewer {
  return {
    async review(token, audiences, signal) {
      const answer = await client.ask(
        {
          method: 'POST',
          path: '/apis/authentication.k8s.io/v1/tokenreviews',
          body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token, audiences } },
          answer: answerSchema,
        },
        signal,
      );
      if (!answer.ok) throw unavailable(client, answer.failure);
      return readReview(answer.value.status, audiences);
    },
  };
}

/** Throws UNAUTHENTICATED. */
export function readReview(status: Status, asked: readonly string[]): Review {
  if (status.authenticated !== true) {
    throw authenticationFailed('review-refused', `the API server says: ${harmless(status.error?.slice(0, 300) ?? 'not authenticated')}`);
  }
  // One that names no audience took no notice of those that we asked for: its yes may be to a token for anybody.
  if (!status.audiences || status.audiences.length === 0) throw authenticationFailed('wrong-audience', 'the API server names no audience');
  const audiences = status.audiences.filter((audience) => asked.includes(audience));
  if (audiences.length === 0)
    throw authenticationFailed('wrong-audience', `the API server says ${status.audiences.slice(0, 4).map(shown).join(', ')}`);
  const subject = status.user?.username ?? '';
  const [, namespace, name] = accountUser.exec(subject) ?? [];
  if (namespace === undefined || name === undefined) throw authenticationFailed('claim', `${shown(subject)} is no service account`);
  return { subject, audiences, claims: claimsOf(namespace, name, status.user) };
}

function claimsOf(namespace: string, name: string, user: Status['user']): JsonObject {
  const extra = (key: string): string | undefined => {
    const values = user?.extra?.[`${extraPrefix}${key}`];
    return values?.length === 1 ? values[0] : undefined;
  };
  const of = (kind: 'pod' | 'node'): JsonObject => {
    const [itsName, uid] = [extra(`${kind}-name`), extra(`${kind}-uid`)];
    return itsName === undefined ? {} : { [kind]: { name: itsName, ...(uid === undefined ? {} : { uid }) } };
  };
  const serviceaccount = { name, ...(user?.uid === undefined ? {} : { uid: user.uid }) };
  return { sub: `system:serviceaccount:${namespace}:${name}`, 'kubernetes.io': { namespace, serviceaccount, ...of('pod'), ...of('node') } };
}

function unavailable(client: KubernetesClient, failure: ApiFailure): SignetError {
  // What a server says to a request that it finds wrong could quote the request, and that has the token in it.
  const why = failure.kind === 'refused' ? `${client.server} refused the request for a TokenReview` : failure.message;
  return new SignetError('IDENTITY_SOURCE_UNAVAILABLE', 'the cluster that could verify this token can not be asked now', {
    cause: new Error(why),
    retryAfterMs: failure.retryAfterMs ?? 1000,
  });
}
