import type { Clock, Random } from '../base/clock.ts';
import { deadlineSignal } from '../base/deadline.ts';
import { reached } from '../base/deadline-heap.ts';
import type { DeadlineHeap } from '../base/deadline-heap.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { isTrustDomain } from '../spiffe/id.ts';
import type { Credential, Upstream } from './upstream.ts';

/** JWK sets by trust domain, `spiffe://td`. An identical object is an identical state. */
export type JwtBundles = ReadonlyMap<string, string>;

/** The keys that verify JWT-SVIDs, asked for again as often as the server wishes. */
export interface JwtBundleFeed {
  /** Once: until then nobody is asked anything. */
  start(): void;
  /** Undefined until there are some; the last good ones from then on. */
  current(): JwtBundles | undefined;
  subscribe(listener: () => void): () => void;
  close(): void;
}

interface BundleAnswer {
  readonly bundles: readonly { readonly trustDomain: string; readonly jwks: Buffer }[];
  readonly refreshHintSeconds: number;
}

const askMs = 15_000;
const shortestRefreshMs = 1000;
const longestRefreshMs = 3_600_000;
const retryMs = 3000;
/** A server that knows no JWT-SVIDs may be a newer one some day. */
const unknownMs = 600_000;
const largestSet = 256 * 1024;

export function createJwtBundles(parts: {
  readonly workload: string;
  readonly upstream: Pick<Upstream, 'call'>;
  readonly withCredential: <T>(work: (credential: Credential) => Promise<T>) => Promise<T>;
  /** From the cache. */
  readonly initial: JwtBundles | undefined;
  readonly keep: (bundles: JwtBundles) => void;
  readonly clock: Clock;
  readonly heap: DeadlineHeap;
  readonly random: Random;
  readonly log: Log;
}): JwtBundleFeed {
  const { clock, heap, random, log } = parts;
  const listeners = new Set<() => void>();
  const closing = new AbortController();
  const { signal } = closing;
  let current = parts.initial;

  async function run(): Promise<void> {
    while (!isClosed()) {
      let wait: number;
      try {
        const answer = await parts.withCredential((credential) =>
          parts.upstream.call<BundleAnswer>('GetJwtBundle', {}, credential, deadlineSignal(askMs, signal)),
        );
        take(bundlesOf(answer));
        // A little early, and not all workloads at once.
        wait = Math.min(longestRefreshMs, Math.max(shortestRefreshMs, answer.refreshHintSeconds * 1000)) * (0.8 + 0.2 * random());
      } catch (error) {
        if (isClosed()) return;
        const failure = SignetError.from(error);
        log.warn({ workload: parts.workload, err: failure }, 'no keys of JWT-SVIDs from the server; what is held stays');
        wait = failure.code === 'UNIMPLEMENTED' ? unknownMs : Math.max(retryMs * (0.5 + 0.5 * random()), failure.retryAfterMs ?? 0);
      }
      await reached(heap, clock.now() + wait, signal);
    }
  }

  function take(next: JwtBundles): void {
    if (current && same(current, next)) return;
    current = next;
    for (const listener of [...listeners]) listener();
    parts.keep(next);
  }

  function isClosed(): boolean {
    return signal.aborted;
  }

  return {
    start() {
      run().catch((error: unknown) => {
        log.error({ workload: parts.workload, err: error }, 'asking for the keys of JWT-SVIDs failed for good');
      });
    },
    current: () => current,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close() {
      closing.abort(new SignetError('CANCELLED', 'the agent is stopping'));
    },
  };
}

/** Throws AUTHORITY_MISBEHAVED: what isn't a JWK set must not take the place of one that is. */
function bundlesOf({ bundles }: BundleAnswer): JwtBundles {
  // There are always those of the own trust domain: an answer without any is a mistake, and takes nothing away.
  if (bundles.length === 0) throw new SignetError('AUTHORITY_MISBEHAVED', 'the server answered with no JWK set');
  return new Map(
    bundles.map(({ trustDomain, jwks }) => {
      const set = jwks.toString('utf8');
      if (!isTrustDomain(trustDomain.replace(/^spiffe:\/\//, '')) || jwks.length > largestSet || !isKeySet(set))
        throw new SignetError('AUTHORITY_MISBEHAVED', 'the server answered with something else than JWK sets');
      return [`spiffe://${trustDomain.replace(/^spiffe:\/\//, '')}`, set];
    }),
  );
}

function isKeySet(text: string): boolean {
  try {
    const set: unknown = JSON.parse(text);
    return typeof set === 'object' && set !== null && 'keys' in set && Array.isArray(set.keys);
  } catch {
    return false;
  }
}

function same(one: JwtBundles, other: JwtBundles): boolean {
  return one.size === other.size && [...one].every(([domain, set]) => other.get(domain) === set);
}
