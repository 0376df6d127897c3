import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { readSmallFile } from '../../base/small-file.ts';
import type { Clock, Random } from '../../base/clock.ts';
import { abortable, deadlineSignal } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { KubernetesClient } from '../../kubernetes/client.ts';
import { segment } from '../../kubernetes/client.ts';
import type { WatchedList } from '../../kubernetes/watch.ts';
import { listAndWatch } from '../../kubernetes/watch.ts';
import { certificatesFromPem } from '../../x509/pem.ts';
import { checkAnchors } from '../../x509/preflight.ts';
import { createListeners } from '../listeners.ts';
import { authorityError } from './failure.ts';
import type { RootsFrom } from './settings.ts';

/** The roots of a CA behind the Kubernetes API, kept up with. */
export interface Roots {
  /** The last good ones; undefined if there never were any. */
  current(): readonly Buffer[] | undefined;
  /** Why there are none, or why the last good ones are not the newest. */
  fault(): SignetError | undefined;
  onChange(listener: () => void): () => void;
  close(): Promise<void>;
}

export interface RootsParts {
  readonly backend: string;
  readonly from: RootsFrom;
  readonly client: KubernetesClient;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

const pollMs = 2000;
const settleMs = 100;
const largestFile = 1024 * 1024;
const firstMs = 5000;
const retry = { baseMs: 250, maxMs: 2000 };

const watched = z.looseObject({ metadata: z.object({ name: z.string(), resourceVersion: z.string() }) });
type Watched = z.output<typeof watched>;
const configMap = z.object({ data: z.record(z.string(), z.string()).optional() });
const trustBundle = z.object({ spec: z.object({ trustBundle: z.string() }) });

/** An object that holds roots: where it is, what it is called in messages, and where in it they are. */
interface Holder {
  readonly list: WatchedList<Watched>;
  readonly called: string;
  readonly pem: (object: unknown) => string | undefined;
}

/**
 * Waits for the first answer, for a moment. Throws AUTHORITY_MISCONFIGURED or AUTHORITY_REFUSED when it is a definite no; an
 * API server that is away is waited for in the background.
 */
export async function openRoots(parts: RootsParts): Promise<Roots> {
  const { backend, from, clock, log } = parts;
  const closing = new AbortController();
  const listeners = createListeners(log);
  const first = Promise.withResolvers<undefined>();
  let roots: readonly Buffer[] | undefined;
  let fault: SignetError | undefined;

  function take(read: () => string | undefined, called: string): void {
    try {
      const pem = read();
      if (pem === undefined) throw new SignetError('INVALID_ARGUMENT', 'it is not there');
      const { certificates } = checkAnchors(certificatesFromPem(pem), clock.now());
      fault = undefined;
      const before = roots;
      const same = before?.length === certificates.length && certificates.every((der, i) => before[i]?.equals(der));
      if (!same) {
        roots = certificates;
        log.info({ authority: backend, roots: certificates.length, from: called }, "the CA's roots");
        listeners.notify();
      }
    } catch (error) {
      complain(
        new SignetError('AUTHORITY_MISCONFIGURED', `CA backend ${backend}: roots from ${called}: ${SignetError.from(error).message}`, {
          cause: error,
        }),
      );
    }
    first.resolve(undefined);
  }

  function complain(error: SignetError): void {
    if (fault?.message !== error.message)
      log.error(
        { authority: backend, reason: error.message },
        roots ? "the CA's roots can't be read; the last ones stay" : "the CA's roots can't be read",
      );
    fault = error;
  }

  function read(file: string): Promise<Buffer> {
    return abortable(readSmallFile(file, largestFile), closing.signal);
  }

  async function followFile(file: string): Promise<void> {
    let before: Buffer | undefined;
    for (;;) {
      try {
        const content = await read(file);
        if (before?.equals(content) !== true) {
          // Half of a file that is being written is often a good file with some roots missing.
          if (before) await sleep(settleMs, undefined, { signal: closing.signal });
          if (!before || (await read(file)).equals(content)) {
            take(() => content.toString('latin1'), file);
            before = content;
          }
        }
      } catch (error) {
        if (closing.signal.aborted) return;
        before = undefined;
        complain(
          new SignetError('AUTHORITY_MISCONFIGURED', `CA backend ${backend}: roots from ${file}: the file can't be read`, { cause: error }),
        );
        first.resolve(undefined);
      }
      await sleep(pollMs, undefined, { signal: closing.signal, ref: false }).catch(() => undefined);
      if (closing.signal.aborted) return;
    }
  }

  async function followObject({ list, called, pem }: Holder): Promise<void> {
    const options = {
      random: parts.random,
      retry,
      onFailure(failed: Parameters<typeof authorityError>[1]): void {
        complain(authorityError(backend, failed));
        if (fault?.code !== 'AUTHORITY_UNAVAILABLE') first.resolve(undefined);
      },
    };
    for await (const event of listAndWatch(parts.client, list, options, closing.signal)) {
      const object = event.kind === 'listed' ? event.objects[0] : event.kind === 'set' ? event.object : undefined;
      take(() => object && pem(object), called);
    }
  }

  const following = (from.file === undefined ? followObject(holderOf(from)) : followFile(from.file)).catch((error: unknown) => {
    if (!closing.signal.aborted) log.error({ authority: backend, err: error }, "following the CA's roots has stopped");
  });
  const close = async (): Promise<void> => {
    closing.abort(new SignetError('CANCELLED', 'the server is stopping'));
    await following;
  };
  await abortable(first.promise, deadlineSignal(firstMs)).catch(() => undefined);
  const refused = fault;
  if (!roots && refused && refused.code !== 'AUTHORITY_UNAVAILABLE' && refused.code !== 'AUTHORITY_THROTTLED') {
    await close();
    throw refused;
  }
  return { current: () => roots, fault: () => fault, onChange: listeners.add, close };
}

function holderOf({ configMap: map, clusterTrustBundle }: RootsFrom): Holder {
  const named = (name: string) => ({ fieldSelector: `metadata.name=${name}` });
  if (map) {
    return {
      list: { path: `/api/v1/namespaces/${segment(map.namespace)}/configmaps`, query: named(map.name), object: watched },
      called: `ConfigMap ${map.namespace}/${map.name}, key ${map.key}`,
      pem: (object) => configMap.parse(object).data?.[map.key],
    };
  }
  const name = clusterTrustBundle ?? '';
  return {
    list: { path: '/apis/certificates.k8s.io/v1beta1/clustertrustbundles', query: named(name), object: watched },
    called: `ClusterTrustBundle ${name}`,
    pem: (object) => trustBundle.parse(object).spec.trustBundle,
  };
}
