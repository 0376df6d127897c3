import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { backoffMs } from '../base/backoff.ts';
import type { Random } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { ApiFailure } from './answer.ts';
import { failure, failureFrom, parseJson } from './answer.ts';
import type { KubernetesClient } from './client.ts';

/** What every object has, and all that following one needs. */
export interface Named {
  readonly metadata: { readonly name: string; readonly namespace?: string | undefined; readonly resourceVersion: string };
}

export interface WatchedList<T extends Named> {
  /** `/api/v1/pods`: a collection. */
  readonly path: string;
  /** labelSelector, fieldSelector. */
  readonly query?: Readonly<Record<string, string>> | undefined;
  /** One object, as far as it is used. */
  readonly object: z.ZodType<T>;
}

export type WatchEvent<T> =
  /** Everything that there is now: at first, and whenever the thread was lost. */
  | { readonly kind: 'listed'; readonly objects: readonly T[] }
  | { readonly kind: 'set'; readonly object: T }
  | { readonly kind: 'deleted'; readonly object: T };

export interface WatchOptions {
  readonly random: Random;
  readonly retry?: { readonly baseMs: number; readonly maxMs: number } | undefined;
  /** Told of each failed try; the next one follows by itself. */
  readonly onFailure?: ((failed: ApiFailure) => void) | undefined;
  /** Told each time that a watch begins: from then on all is heard, which may be nothing for long. */
  readonly onWatching?: (() => void) | undefined;
}

const defaultRetry = { baseMs: 500, maxMs: 30_000 };
const pageSize = '500';
const mostPages = 400;
const longestPage = 64 * 1024 * 1024;
/** How long the server keeps one watch open; drawn from 60 to 120 s, so that watches don't all begin anew at once. */
const watchSeconds = 120;

/**
 * List, then watch, for ever (https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes):
 * bookmarks carry the resource version along, 410 Gone lists anew, failures back off with jitter. Ends only by its signal
 * (rejecting with its reason), or by the consumer leaving the loop.
 */
export async function* listAndWatch<T extends Named>(
  client: KubernetesClient,
  list: WatchedList<T>,
  options: WatchOptions,
  signal: AbortSignal,
): AsyncGenerator<WatchEvent<T>, never> {
  let version: string | undefined;
  let failures = 0;
  for (;;) {
    let failed: ApiFailure | undefined;
    let heard = false;
    if (version === undefined) {
      const listed = await listAll(client, list, signal);
      if (listed.ok) {
        [version, heard] = [listed.version, true];
        yield { kind: 'listed', objects: listed.objects };
      } else failed = listed.failure;
    } else {
      const watching: Watching<T> = watchOnce(client, list, version, options, signal);
      try {
        for (let step = await watching.next(); ; step = await watching.next()) {
          if (step.done) {
            failed = step.value;
            break;
          }
          [version, heard, failures] = [step.value.version, true, 0];
          if (step.value.event) yield step.value.event;
        }
      } finally {
        await watching.return(undefined); // The consumer may have left: its connection goes too.
      }
      // Lost: whatever was missed in between shows in a new list.
      if (failed?.kind === 'gone' || failed?.kind === 'malformed') version = undefined;
    }
    if (signal.aborted) throw SignetError.from(signal.reason);
    if (heard && !failed) continue;
    if (failed) options.onFailure?.(failed);
    // A watch that ended without a word waits too: whatever stands in between may end each at once.
    const wait = Math.max(backoffMs(failures, options.retry ?? defaultRetry, options.random), failed?.retryAfterMs ?? 0);
    if (failed) failures++;
    await sleep(wait, undefined, { signal }).catch(() => {
      throw SignetError.from(signal.reason);
    });
  }
}

type Listed<T> =
  | { readonly ok: true; readonly objects: T[]; readonly version: string }
  | { readonly ok: false; readonly failure: ApiFailure };

async function listAll<T extends Named>(client: KubernetesClient, list: WatchedList<T>, signal: AbortSignal): Promise<Listed<T>> {
  const page = z.object({
    metadata: z.object({ resourceVersion: z.string(), continue: z.string().optional() }),
    items: z.array(list.object).nullish(),
  });
  const objects: T[] = [];
  let next: string | undefined;
  for (let pages = 0; pages < mostPages; pages++) {
    const query = { ...list.query, limit: pageSize, ...(next === undefined ? {} : { continue: next }) };
    const answer = await client.ask({ method: 'GET', path: list.path, query, answer: page, longestAnswer: longestPage }, signal);
    if (!answer.ok) return answer;
    objects.push(...(answer.value.items ?? []));
    next = answer.value.metadata.continue;
    if (next === undefined || next === '') return { ok: true, objects, version: answer.value.metadata.resourceVersion };
  }
  return { ok: false, failure: failure('malformed', `GET ${client.server}${list.path}: the list has no end`) };
}

type Watching<T> = AsyncGenerator<{ readonly version: string; readonly event: WatchEvent<T> | undefined }, ApiFailure | undefined>;

const eventSchema = z.object({ type: z.string(), object: z.looseObject({}) });
const bookmarkSchema = z.object({ metadata: z.object({ resourceVersion: z.string() }) });
const errorSchema = z.object({ code: z.number().int() });

/** One watch. Returns undefined when the server ended it in its own time. */
async function* watchOnce<T extends Named>(
  client: KubernetesClient,
  list: WatchedList<T>,
  version: string,
  { random, onWatching }: WatchOptions,
  signal: AbortSignal,
): Watching<T> {
  const timeoutSeconds = String(Math.ceil(watchSeconds * (1 + random()) * 0.5));
  const query = { ...list.query, watch: 'true', allowWatchBookmarks: 'true', resourceVersion: version, timeoutSeconds };
  const opened = await client.open({ path: list.path, query }, signal);
  if (!opened.ok) return opened.failure;
  onWatching?.();
  const call = `GET ${client.server}${list.path}?watch`;
  const odd = (): ApiFailure => failure('malformed', `${call}: an event has another form than it should`);
  try {
    for await (const line of opened.value) {
      const text = line.toString('utf8');
      const parsed = eventSchema.safeParse(parseJson(text));
      if (!parsed.success) return odd();
      const { type, object } = parsed.data;
      if (type === 'ERROR') {
        const code = errorSchema.safeParse(object);
        return failureFrom(call, code.success ? code.data.code : 500, undefined, JSON.stringify(object));
      }
      const bookmark = bookmarkSchema.safeParse(object);
      if (!bookmark.success) return odd();
      const newest = bookmark.data.metadata.resourceVersion;
      if (type === 'BOOKMARK') {
        yield { version: newest, event: undefined };
        continue;
      }
      const known = list.object.safeParse(object);
      if (!known.success) return odd();
      yield { version: newest, event: { kind: type === 'DELETED' ? 'deleted' : 'set', object: known.data } };
    }
    return undefined;
  } catch (error) {
    if (signal.aborted) throw SignetError.from(signal.reason);
    return failure('away', `${call}: the connection broke`, error);
  }
}
