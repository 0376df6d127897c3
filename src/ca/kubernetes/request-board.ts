import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { Clock, Random } from '../../base/clock.ts';
import { abortable, deadlineSignal } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { ApiAnswer } from '../../kubernetes/answer.ts';
import type { KubernetesClient } from '../../kubernetes/client.ts';
import { listAndWatch } from '../../kubernetes/watch.ts';
import { authorityError } from './failure.ts';
import type { Verdict } from './verdict.ts';

/** One kind of object that asks for a certificate, and who asks by it. */
export interface RequestKind {
  readonly backend: string;
  readonly apiVersion: string;
  readonly kind: string;
  /** Path of the collection. */
  readonly collection: string;
  readonly judge: (object: unknown) => Verdict;
  /** Asked once about a request that is said to be pending: why it can never be signed, if so. */
  readonly hopeless?: ((signal: AbortSignal) => Promise<SignetError | undefined>) | undefined;
}

/**
 * Objects that ask for certificates: each is made, watched till somebody has answered, and taken away again. One watch
 * serves all, so that a signature costs a POST, a DELETE and the events of its own object.
 */
export interface RequestBoard {
  /**
   * Resolves with the PEM that was issued. Throws AUTHORITY_ errors, and CANCELLED or DEADLINE_EXCEEDED within moments of
   * the signal's abort; the object is taken away all the same.
   */
  ask(spec: object, signal: AbortSignal): Promise<string>;
  /** Since when (ms) no request was answered though some waited long, and how the last one stood; undefined if all is well. */
  unanswered(): { readonly since: number; readonly detail: string } | undefined;
  /** Ends what waits, and takes the objects away. */
  close(): Promise<void>;
}

export interface BoardParts {
  readonly client: KubernetesClient;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

interface Waiter {
  readonly answered: PromiseWithResolvers<string>;
  detail: string;
  askedWhy: boolean;
}

export const backendLabel = 'signet.dev/backend';
const processLabel = 'signet.dev/process';
/** An API server that is back is noticed within this, however long it was away. */
const retry = { baseMs: 250, maxMs: 1000 };
const faultCountsMs = 10_000;
const longWaitMs = 3000;
const removalMs = 5000;
/** Left by a process that was killed. No honest wait is that long. */
const abandonedMs = 3_600_000;

const anObject = z.looseObject({
  metadata: z.object({ name: z.string(), resourceVersion: z.string(), creationTimestamp: z.string().optional() }),
});
type AnObject = z.output<typeof anObject>;

export function openRequestBoard(kind: RequestKind, { client, clock, random, log }: BoardParts): RequestBoard {
  const closing = new AbortController();
  const waiting = new Map<string, Waiter>();
  const leaving = new Set<Promise<void>>();
  const process = randomBytes(8).toString('hex');
  const labels = { [backendLabel]: labelOf(kind.backend), [processLabel]: process };
  let fault: { readonly error: SignetError; readonly at: number } | undefined;
  let unanswered: { readonly since: number; readonly detail: string } | undefined;

  const following = follow().catch((error: unknown) => {
    if (!closing.signal.aborted) log.error({ authority: kind.backend, err: error }, 'following the requests for certificates has stopped');
  });
  const sweeping = sweep().catch((error: unknown) => {
    if (!closing.signal.aborted) log.warn({ authority: kind.backend, err: error }, 'old requests for certificates could not be taken away');
  });

  async function follow(): Promise<void> {
    const list = { path: kind.collection, query: { labelSelector: `${processLabel}=${process}` }, object: anObject };
    const options = {
      random,
      retry,
      onFailure(failed: Parameters<typeof authorityError>[1]): void {
        const error = authorityError(kind.backend, failed);
        // An API server that is away is told by each request itself.
        if (error.code === 'AUTHORITY_REFUSED' || error.code === 'AUTHORITY_MISCONFIGURED') fault = { error, at: clock.now() };
        log.warn({ authority: kind.backend, reason: failed.message }, 'the requests for certificates can not be followed; trying again');
      },
      // While there is a fault nothing is asked for, so that no event would tell of its end.
      onWatching(): void {
        fault = undefined;
      },
    };
    for await (const event of listAndWatch<AnObject>(client, list, options, closing.signal)) {
      if (event.kind === 'listed') event.objects.forEach(told);
      else if (event.kind === 'set') told(event.object);
      else gone(event.object);
    }
  }

  function told(object: AnObject): void {
    const waiter = waiting.get(object.metadata.name);
    if (!waiter) return;
    let verdict: Verdict;
    try {
      verdict = kind.judge(object);
    } catch (error) {
      waiter.answered.reject(
        new SignetError('AUTHORITY_MISBEHAVED', `CA backend ${kind.backend}: the ${kind.kind} has another form than it should`, {
          cause: error,
        }),
      );
      return;
    }
    if (verdict.kind === 'waiting') {
      waiter.detail = verdict.detail;
      if (verdict.pending) why(waiter);
      return;
    }
    unanswered = undefined;
    if (verdict.kind === 'issued') waiter.answered.resolve(verdict.pem);
    else waiter.answered.reject(verdict.error);
  }

  /** Pending may mean for ever: an issuer that doesn't exist is waited for, too. */
  function why(waiter: Waiter): void {
    if (waiter.askedWhy || !kind.hopeless) return;
    waiter.askedWhy = true;
    kind.hopeless(closing.signal).then(
      (error) => {
        if (error) waiter.answered.reject(error);
      },
      () => undefined,
    );
  }

  function gone(object: AnObject): void {
    waiting
      .get(object.metadata.name)
      ?.answered.reject(
        new SignetError('AUTHORITY_UNAVAILABLE', `CA backend ${kind.backend}: somebody deleted the ${kind.kind} before it was answered`),
      );
  }

  async function ask(spec: object, signal: AbortSignal): Promise<string> {
    if (fault && clock.now() - fault.at < faultCountsMs) throw fault.error;
    const begun = clock.now();
    const name = `signet-${kind.backend}-${randomBytes(10).toString('hex')}`;
    const waiter: Waiter = { answered: Promise.withResolvers(), detail: 'not seen by anybody', askedWhy: false };
    waiter.answered.promise.catch(() => undefined);
    waiting.set(name, waiter);
    // Not under the caller's signal: an object that is made after all must be known, to be taken away.
    const making = client.ask(
      {
        method: 'POST',
        path: kind.collection,
        body: { apiVersion: kind.apiVersion, kind: kind.kind, metadata: { name, labels }, spec },
        answer: anObject,
      },
      closing.signal,
    );
    try {
      const made = await abortable(making, signal);
      if (!made.ok) throw authorityError(kind.backend, made.failure);
      return await abortable(waiter.answered.promise, AbortSignal.any([signal, closing.signal]));
    } catch (error) {
      const waited = clock.now() - begun;
      if (signal.aborted && waited >= longWaitMs) unanswered ??= { since: begun, detail: waiter.detail };
      throw error;
    } finally {
      waiting.delete(name);
      track(
        making.then(
          (made) => takeAway(name, made),
          () => takeAway(name, undefined),
        ),
      );
    }
  }

  function track(work: Promise<void>): void {
    const own: Promise<void> = work.finally(() => leaving.delete(own));
    leaving.add(own);
  }

  /** Best effort: what stays is swept at the next start, and in the case of CertificateSigningRequests by Kubernetes itself. */
  async function takeAway(name: string, made: ApiAnswer<AnObject> | undefined): Promise<void> {
    if (made && !made.ok && made.failure.kind !== 'away') return;
    try {
      const call = { method: 'DELETE', path: `${kind.collection}/${name}`, answer: z.unknown() } as const;
      const deleted = await client.ask(call, deadlineSignal(removalMs));
      if (!deleted.ok && deleted.failure.kind !== 'not-found')
        log.warn({ authority: kind.backend, object: name, reason: deleted.failure.message }, 'a request for a certificate was left behind');
    } catch (error) {
      log.warn({ authority: kind.backend, object: name, err: error }, 'a request for a certificate was left behind');
    }
  }

  async function sweep(): Promise<void> {
    const query = { labelSelector: `${backendLabel}=${labels[backendLabel]}`, limit: '500' };
    const page = z.object({ items: z.array(anObject).nullish() });
    const listed = await client.ask(
      { method: 'GET', path: kind.collection, query, answer: page, longestAnswer: 16 * 1024 * 1024 },
      closing.signal,
    );
    if (!listed.ok) return;
    for (const { metadata } of listed.value.items ?? []) {
      const age = clock.now() - Date.parse(metadata.creationTimestamp ?? '');
      if (age > abandonedMs && !closing.signal.aborted) await takeAway(metadata.name, undefined);
    }
  }

  return {
    ask,
    unanswered: () => unanswered,
    async close() {
      closing.abort(new SignetError('CANCELLED', 'the server is stopping'));
      await Promise.all([following, sweeping]);
      while (leaving.size > 0) await Promise.all(leaving);
    },
  };
}

/** The value of a label has at most 63 characters and ends with a letter or a digit; the name of a backend needn't. */
export function labelOf(backend: string): string {
  return createHash('sha256').update(backend).digest('hex').slice(0, 16);
}
