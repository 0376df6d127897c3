import { z } from 'zod';
import { SignetError } from '../base/errors.ts';
import type { ApiFailure } from './answer.ts';
import { createCopies } from './bundle-copies.ts';
import type { CopiesParts } from './bundle-copies.ts';
import { clusterTrustBundles, clusterTrustBundleTarget, configMapTarget, storedObject } from './published-object.ts';
import type { StoredObject } from './published-object.ts';
import { listAndWatch } from './watch.ts';
import type { WatchedList } from './watch.ts';

export interface PublisherSettings {
  readonly trustDomain: string;
  /** `namespaces` is a label selector; empty: all of them. */
  readonly configMap?: { readonly name: string; readonly key: string; readonly namespaces: string } | undefined;
  readonly clusterTrustBundle?: { readonly name: string; readonly signerName?: string | undefined } | undefined;
}

export interface PublisherParts extends Omit<CopiesParts, 'trustDomain'> {
  readonly settings: PublisherSettings;
}

const aNamespace = z.object({
  metadata: z.object({ name: z.string(), resourceVersion: z.string() }),
  status: z.object({ phase: z.string().optional() }).optional(),
});
type ANamespace = z.output<typeof aNamespace>;

/** Keeps every copy of the bundle as it should be, until the signal aborts. For the leader alone. */
export async function publishBundle(parts: PublisherParts, signal: AbortSignal): Promise<void> {
  const { configMap, clusterTrustBundle } = parts.settings;
  const own = new AbortController();
  const either = AbortSignal.any([signal, own.signal]);
  const kept: Promise<void>[] = [];
  if (configMap) kept.push(keepConfigMaps(parts, configMap, either));
  if (clusterTrustBundle) kept.push(keepClusterTrustBundle(parts, clusterTrustBundle, either));
  try {
    await Promise.all(kept);
  } finally {
    own.abort(new SignetError('CANCELLED', 'publishing has stopped'));
    await Promise.allSettled(kept);
  }
}

async function keepConfigMaps(
  parts: PublisherParts,
  settings: NonNullable<PublisherSettings['configMap']>,
  signal: AbortSignal,
): Promise<void> {
  const namespaces = new Set<string>();
  const copies = createCopies(
    { ...parts, trustDomain: parts.settings.trustDomain },
    configMapTarget(settings.name, settings.key),
    (namespace) => namespaces.has(namespace),
    signal,
  );
  let listed = false;

  function isWanted({ status }: ANamespace): boolean {
    // In one that is being deleted nothing can be made any more.
    return status?.phase !== 'Terminating';
  }

  const followNamespaces = follow<ANamespace>(
    parts,
    {
      path: '/api/v1/namespaces',
      query: settings.namespaces === '' ? {} : { labelSelector: settings.namespaces },
      object: aNamespace,
    },
    signal,
    {
      listed(objects) {
        const before = [...namespaces];
        namespaces.clear();
        for (const object of objects) if (isWanted(object)) namespaces.add(object.metadata.name);
        listed = true;
        copies.ready();
        for (const name of new Set([...before, ...namespaces, ...copies.keys()])) copies.touch(name);
      },
      set(object) {
        if (isWanted(object)) namespaces.add(object.metadata.name);
        else namespaces.delete(object.metadata.name);
        copies.touch(object.metadata.name);
      },
      deleted({ metadata: { name } }) {
        // Or it no longer has the labels.
        namespaces.delete(name);
        copies.touch(name);
      },
    },
  );
  const list = { path: '/api/v1/configmaps', query: { fieldSelector: `metadata.name=${settings.name}` }, object: storedObject };
  const followCopies = follow<StoredObject>(parts, list, signal, {
    listed(objects) {
      copies.replace(new Map(objects.map((object) => [object.metadata.namespace ?? '', object])));
      if (listed) for (const name of new Set([...namespaces, ...copies.keys()])) copies.touch(name);
    },
    set: (object) => {
      copies.set(object.metadata.namespace ?? '', object);
    },
    deleted: (object) => {
      copies.set(object.metadata.namespace ?? '', undefined);
    },
  });
  const stop = parts.feed.subscribe(() => {
    for (const name of namespaces) copies.touch(name);
  });
  try {
    await Promise.all([followNamespaces, followCopies]);
  } finally {
    stop();
    await copies.settled();
  }
}

async function keepClusterTrustBundle(
  parts: PublisherParts,
  { name, signerName }: NonNullable<PublisherSettings['clusterTrustBundle']>,
  signal: AbortSignal,
): Promise<void> {
  const copies = createCopies(
    { ...parts, trustDomain: parts.settings.trustDomain },
    clusterTrustBundleTarget(name, signerName),
    () => true,
    signal,
  );
  const stop = parts.feed.subscribe(() => {
    copies.touch('');
  });
  copies.ready();
  try {
    await follow<StoredObject>(
      parts,
      { path: clusterTrustBundles, query: { fieldSelector: `metadata.name=${name}` }, object: storedObject },
      signal,
      {
        listed([object]) {
          copies.replace(new Map(object ? [['', object]] : []));
          copies.touch('');
        },
        set: (object) => {
          copies.set('', object);
        },
        deleted: () => {
          copies.set('', undefined);
        },
      },
    );
  } finally {
    stop();
    await copies.settled();
  }
}

interface Following<T> {
  listed(objects: readonly T[]): void;
  set(object: T): void;
  deleted(object: T): void;
}

async function follow<T extends StoredObject | ANamespace>(
  { client, random, log }: PublisherParts,
  list: WatchedList<T>,
  signal: AbortSignal,
  into: Following<T>,
): Promise<void> {
  let complaint: string | undefined;
  const onFailure = ({ message }: ApiFailure): void => {
    if (complaint !== message) log.warn({ reason: message }, 'publishing the trust bundle: a watch failed; trying again');
    complaint = message;
  };
  for await (const event of listAndWatch(client, list, { random, onFailure }, signal)) {
    complaint = undefined;
    if (event.kind === 'listed') into.listed(event.objects);
    else if (event.kind === 'set') into.set(event.object);
    else into.deleted(event.object);
  }
}
