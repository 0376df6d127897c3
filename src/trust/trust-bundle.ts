import type { Clock } from '../base/clock.ts';
import { abortable, deadlineSignal } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { CheckedAnchors } from '../x509/material.ts';
import { checkAnchors } from '../x509/preflight.ts';
import { decodeBundleDocument, encodeBundleDocument, hashCertificates } from './bundle-document.ts';
import type { BundleDocument } from './bundle-document.ts';

/** One version of the trust domain's bundle; the same object as long as the bytes are the same. */
export interface PublishedBundle {
  readonly type: 'validation';
  /** `<generation>.<hash>`. */
  readonly version: string;
  /** Moves by one, and only when the bytes do. */
  readonly generation: number;
  readonly anchors: CheckedAnchors;
}

export interface TrustBundle {
  readonly type: 'validation';
  readonly key: 'bundle';
  /** Never empty. Throws INTERNAL before the very first source was set. */
  current(): PublishedBundle;
  /** The listener is called after each change of `current`. Returns how to stop. */
  subscribe(listener: () => void): () => void;
  /**
   * Replaces what this source contributes. Durable before it is visible. Throws INVALID_ARGUMENT (a leaf, garbage,
   * nothing at all): the source then keeps what it had.
   */
  setSource(name: string, certificates: readonly Buffer[]): Promise<void>;
  /** Drops all sources but these: for what the configuration no longer names. Throws INVALID_ARGUMENT if none would be left. */
  retainSources(names: readonly string[]): Promise<void>;
  /** Whether this source has last good certificates, from this run or an earlier one. */
  hasSource(name: string): boolean;
  /** What a source contributes (DER); empty if there is no such source. */
  contributed(name: string): readonly Buffer[];
  /** The sources that contribute something. */
  sourceNames(): readonly string[];
  /** Takes up what another process wrote, if it is newer. */
  refresh(): Promise<void>;
  close(): void;
}

/** The store's `trust`, as far as it is needed here. */
export interface BundleState {
  read(name: string): Promise<{ readonly epoch: number; readonly value: Buffer } | undefined>;
  compareAndSet(name: string, expected: number, value: Buffer): Promise<boolean>;
}

const documentName = 'trust-bundle';
const mostTries = 10;

/**
 * The union of what every source of anchors (CA backends, files) last gave that was good. A source that fails, or that
 * has not spoken yet after a start, keeps its last good certificates: trust never shrinks because something is away.
 */
export async function openTrustBundle(deps: {
  readonly state: BundleState;
  readonly clock: Clock;
  readonly log: Log;
  readonly storeTimeoutMs?: number;
}): Promise<TrustBundle> {
  const { clock, log } = deps;
  const timeoutMs = deps.storeTimeoutMs ?? 5000;
  const listeners = new Set<() => void>();
  const closing = new AbortController();
  let epoch = 0;
  let sources: ReadonlyMap<string, readonly Buffer[]> = new Map();
  let published: PublishedBundle | undefined;
  let last: Promise<void> = Promise.resolve();

  function stored<T>(work: Promise<T>): Promise<T> {
    return abortable(work, deadlineSignal(timeoutMs, closing.signal));
  }

  /** Takes up the store's document unless it is what we have. */
  async function load(): Promise<void> {
    const entry = await stored(deps.state.read(documentName));
    if (!entry || entry.epoch === epoch) return;
    show(decodeBundleDocument(entry.value), entry.epoch);
  }

  /** Makes a document that is in the store visible. */
  function show(document: BundleDocument, at: number): void {
    const version = `${String(document.generation)}.${document.hash}`;
    const next = published?.version === version ? published : publish(document, version);
    const changed = next !== published;
    epoch = at;
    sources = document.sources;
    published = next;
    if (!changed) return;
    log.info({ version, anchors: next.anchors.certificates.length }, 'trust bundle');
    for (const listener of [...listeners]) {
      try {
        listener();
      } catch (error) {
        log.error({ err: error }, 'a subscriber to the trust bundle failed');
      }
    }
  }

  function publish(document: BundleDocument, version: string): PublishedBundle {
    const anchors = checkAnchors([...document.sources.values()].flat(), clock.now());
    return { type: 'validation', version, generation: document.generation, anchors };
  }

  /** Read, change, write; again from the start if another process wrote in between. */
  async function change(next: (before: ReadonlyMap<string, readonly Buffer[]>) => ReadonlyMap<string, readonly Buffer[]>): Promise<void> {
    for (let attempt = 0; attempt < mostTries; attempt++) {
      const wanted = next(sources);
      if (sameSources(sources, wanted)) return;
      const hash = hashCertificates(checkAnchors([...wanted.values()].flat(), clock.now()).certificates);
      const before = published?.generation ?? 0;
      const moved = published?.version !== `${String(before)}.${hash}`;
      const document: BundleDocument = { generation: moved ? before + 1 : before, hash, sources: wanted };
      if (await stored(deps.state.compareAndSet(documentName, epoch, encodeBundleDocument(document)))) {
        show(document, epoch + 1);
        return;
      }
      await load();
    }
    throw new SignetError('INTERNAL', 'the trust bundle is being changed by too many at once');
  }

  /** Changes are made one after the other. */
  function queued(work: () => Promise<void>): Promise<void> {
    const mine = last.then(work);
    last = mine.catch(() => undefined);
    return mine;
  }

  await load();

  return {
    type: 'validation',
    key: 'bundle',
    current() {
      if (!published) throw new SignetError('INTERNAL', 'there are no trust anchors yet');
      return published;
    },
    subscribe(listener) {
      const own = (): void => {
        listener();
      };
      listeners.add(own);
      return () => {
        listeners.delete(own);
      };
    },
    setSource: (name, certificates) =>
      queued(async () => {
        const { certificates: good } = checkAnchors(certificates, clock.now());
        await change((before) => new Map(before).set(name, good));
      }),
    retainSources: (names) => queued(() => change((before) => new Map([...before].filter(([name]) => names.includes(name))))),
    hasSource: (name) => sources.has(name),
    contributed: (name) => sources.get(name) ?? [],
    sourceNames: () => [...sources.keys()],
    refresh: () => queued(load),
    close() {
      closing.abort(new SignetError('CANCELLED', 'the server is stopping'));
      listeners.clear();
    },
  };
}

function sameSources(a: ReadonlyMap<string, readonly Buffer[]>, b: ReadonlyMap<string, readonly Buffer[]>): boolean {
  if (a.size !== b.size) return false;
  for (const [name, certificates] of a) {
    const others = b.get(name);
    if (others?.length !== certificates.length || !certificates.every((der, i) => others[i]?.equals(der))) return false;
  }
  return true;
}
