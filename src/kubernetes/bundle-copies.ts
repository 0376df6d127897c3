import { z } from 'zod';
import { backoffMs } from '../base/backoff.ts';
import type { Clock, Random } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { KubernetesClient } from './client.ts';
import { fieldManager, standingOf, storedObject } from './published-object.ts';
import type { BundleFeed, BundleTarget, StoredObject } from './published-object.ts';
import { createWorkList } from './work-list.ts';
import type { WorkList } from './work-list.ts';

export type PublicationOutcome = 'written' | 'put-back' | 'removed' | 'conflict' | 'failed';

export interface CopiesParts {
  readonly client: KubernetesClient;
  readonly trustDomain: string;
  readonly feed: BundleFeed;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly observe: (kind: BundleTarget['kind'], outcome: PublicationOutcome) => void;
}

const retry = { baseMs: 500, maxMs: 30_000 };
const atOnce = 8;
/** Whoever undoes what we put back again and again is met less and less often. */
const quickPutBacks = 5;
const calmMs = 60_000;

/** The objects that hold the bundle, as they were last seen, and the work on them. */
export interface Copies extends Pick<WorkList, 'touch' | 'settled'> {
  /** What should be there is known from now on: before, nothing is removed. */
  ready(): void;
  keys(): Iterable<string>;
  /** All that there are. */
  replace(objects: ReadonlyMap<string, StoredObject>): void;
  /** One has changed, or is gone. */
  set(key: string, object: StoredObject | undefined): void;
}

/**
 * Compares each object with what it should be and writes what differs. What was ours once is put back whoever undoes it, and
 * however; what never was is left alone.
 */
export function createCopies(parts: CopiesParts, target: BundleTarget, wanted: (key: string) => boolean, signal: AbortSignal): Copies {
  const { client, trustDomain, feed, clock, log, observe } = parts;
  /** Undefined before the first list: then nothing is known, and nothing is done. */
  let objects: Map<string, StoredObject> | undefined;
  let isReady = false;
  /** Which were ours, as far as this leader knows. */
  const ours = new Set<string>();
  const lastWritten = new Map<string, string>();
  const putBacks = new Map<string, { readonly count: number; readonly at: number }>();
  const complaints = new Map<string, string>();
  const place = (key: string): object => ({ kind: target.kind, ...(key === '' ? {} : { namespace: key }) });

  async function look(key: string): Promise<void> {
    if (!objects || !isReady) return;
    const object = objects.get(key);
    if (!wanted(key)) {
      if (object && standingOf(target, object, feed.current(), trustDomain, ours.has(key)).kind !== 'foreign') await remove(key, object);
      return;
    }
    let standing = standingOf(target, object, feed.current(), trustDomain, ours.has(key));
    if (standing.kind === 'differs' && standing.ahead) {
      // Another server may know of a later one. The store is right, whatever is written there.
      await feed.refresh();
      standing = standingOf(target, object, feed.current(), trustDomain, ours.has(key));
    }
    if (standing.kind === 'foreign') {
      conflict(key, standing.why);
      return;
    }
    complaints.delete(key);
    if (object) ours.add(key);
    if (standing.kind !== 'as-wanted') await write(key);
  }

  async function write(key: string): Promise<void> {
    const bundle = feed.current();
    const answer = await client.ask(
      {
        method: 'PATCH',
        path: target.path(key),
        // Force: whoever edited our fields gives them back (https://kubernetes.io/docs/reference/using-api/server-side-apply/).
        query: { fieldManager: fieldManager(trustDomain), force: 'true' },
        contentType: 'application/apply-patch+yaml',
        body: target.object(key, bundle, trustDomain),
        answer: storedObject,
      },
      signal,
    );
    if (!answer.ok) throw new SignetError('INTERNAL', answer.failure.message);
    ours.add(key);
    objects?.set(key, answer.value);
    observe(target.kind, lastWritten.get(key) === bundle.version ? 'put-back' : 'written');
    lastWritten.set(key, bundle.version);
    log.info({ ...place(key), version: bundle.version }, 'trust bundle published');
  }

  async function remove(key: string, object: StoredObject): Promise<void> {
    const body = { apiVersion: 'v1', kind: 'DeleteOptions', preconditions: { uid: object.metadata.uid } };
    const answer = await client.ask({ method: 'DELETE', path: target.path(key), body, answer: z.unknown() }, signal);
    if (!answer.ok && answer.failure.kind !== 'not-found') throw new SignetError('INTERNAL', answer.failure.message);
    ours.delete(key);
    lastWritten.delete(key);
    observe(target.kind, 'removed');
    log.info(place(key), 'trust bundle taken out of a namespace that is not selected any more');
  }

  function conflict(key: string, why: string): void {
    if (complaints.get(key) === why) return;
    complaints.set(key, why);
    observe(target.kind, 'conflict');
    log.error(
      { ...place(key), reason: why },
      'the trust bundle is not published here: an object of that name is not ours; remove it, or choose another name',
    );
  }

  const work = createWorkList(
    {
      look,
      atOnce,
      retry,
      random: parts.random,
      failed(key, error) {
        observe(target.kind, 'failed');
        log.warn({ ...place(key), reason: SignetError.from(error).message }, 'the trust bundle could not be published; trying again');
      },
    },
    signal,
  );

  /** Somebody undid what we wrote: at once at first, then at longer and longer intervals. */
  function undone(key: string): void {
    const now = clock.now();
    const before = putBacks.get(key);
    const count = before && now - before.at < calmMs ? before.count + 1 : 1;
    putBacks.set(key, { count, at: now });
    if (count <= quickPutBacks) {
      work.touch(key);
      return;
    }
    if (count === quickPutBacks + 1) log.warn(place(key), 'somebody keeps changing the published trust bundle; it is put back less often');
    work.touchLater(key, backoffMs(count - quickPutBacks, retry, parts.random));
  }

  return {
    touch: work.touch,
    settled: work.settled,
    ready() {
      isReady = true;
    },
    keys: () => objects?.keys() ?? [],
    replace(all) {
      objects = new Map(all);
    },
    set(key, object) {
      if (object) objects?.set(key, object);
      else objects?.delete(key);
      const standing = standingOf(target, object, feed.current(), trustDomain, ours.has(key));
      if (standing.kind === 'as-wanted') return;
      if (lastWritten.get(key) === feed.current().version) undone(key);
      else work.touch(key);
    },
  };
}
