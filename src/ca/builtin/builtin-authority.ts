import { backoffMs } from '../../base/backoff.ts';
import type { Clock } from '../../base/clock.ts';
import { abortable } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import type { Authority } from '../authority.ts';
import { yearMs } from '../ca-name.ts';
import type { CaState } from '../ca-state.ts';
import type { KeySeal } from '../key-seal.ts';
import { signLeaf } from '../leaf-signing.ts';
import { createListeners } from '../listeners.ts';
import { encodeDocument, readDocument } from '../state-document.ts';
import { caDocumentSchema, certifyIntermediate, createCa, openDocument, renewIntermediate } from './ca-document.ts';
import type { OpenedCa } from './ca-document.ts';

export interface BuiltinAuthorityOptions {
  readonly name: string;
  readonly trustDomain: TrustDomain;
  readonly state: CaState;
  readonly seal: KeySeal;
  readonly clock: Clock;
  readonly log: Log;
  /** Ten years and one year, unless given (ms). */
  readonly rootLifeMs?: number;
  readonly intermediateLifeMs?: number;
}

/** An opened CA and the epoch of the document that it came from. */
interface Held extends OpenedCa {
  readonly epoch: number;
}

const checkEveryMs = 60_000;
const retryLimits = { baseMs: 1000, maxMs: 300_000 };

/**
 * The CA that needs nothing but the store: makes a root and an intermediate at the first start of all, and a new
 * intermediate under the same root at half of each one's life. Replicas settle who made what by compare-and-set.
 * Throws STORE_MISMATCH, STORE_CORRUPT or KEY_UNSEALABLE.
 */
export async function openBuiltinAuthority(options: BuiltinAuthorityOptions): Promise<Authority> {
  const { name, state, clock, log } = options;
  const settings = { rootLifeMs: 10 * yearMs, intermediateLifeMs: yearMs, ...options };
  const stateName = `ca/backend/${name}`;
  const changed = createListeners(log);
  let held = (await load()) ?? (await create());
  let renewing: Promise<void> | undefined;
  let failures = 0;
  let notBefore = 0;

  async function load(): Promise<Held | undefined> {
    const stored = await readDocument(state, stateName, caDocumentSchema);
    return stored && { ...openDocument(settings, stored.value), epoch: stored.epoch };
  }

  /** What the store holds after this write, ours or another replica's. */
  async function store(expected: number, document: OpenedCa['document']): Promise<Held> {
    const won = await state.compareAndSet(stateName, expected, encodeDocument(document));
    const stored = await load();
    if (!stored) throw new SignetError('STORE_CORRUPT', `the CA state ${stateName} has gone from the store`);
    if (won)
      log.info(
        { authority: name, issuerKeyId: stored.issuer.keyId, ends: new Date(stored.issuersEnd).toISOString() },
        'CA certificate made',
      );
    return stored;
  }

  async function create(): Promise<Held> {
    return store(0, await createCa(settings, clock.now()));
  }

  /** Whether a new intermediate would live longer than this one: under a root near its end it would not. */
  function isDue(ca: Held, now: number): boolean {
    return now >= ca.renewAt && ca.intermediateEnd < ca.rootEnd && now < ca.rootEnd;
  }

  async function renewOnce(): Promise<void> {
    let next = (await load()) ?? held;
    if (isDue(next, clock.now())) next = await store(next.epoch, await renewIntermediate(settings, next.document, clock.now()));
    if (next.epoch === held.epoch) return;
    held = next;
    changed.notify();
  }

  /** One renewal at a time; after a failure the next one waits, since the present intermediate has half of its life left. */
  function renew(): Promise<void> {
    renewing ??= renewOnce()
      .then(
        () => {
          failures = 0;
        },
        (error: unknown) => {
          notBefore = clock.now() + backoffMs(failures++, retryLimits, Math.random);
          log.error({ authority: name, err: error }, 'a new intermediate CA certificate could not be made; it will be tried again');
          throw error;
        },
      )
      .finally(() => {
        renewing = undefined;
      });
    return renewing;
  }

  function renewIfDue(): void {
    const now = clock.now();
    // Logged by renew(), and what waits for it is told by its own await.
    if (isDue(held, now) && now >= notBefore) renew().catch(() => undefined);
  }

  if (isDue(held, clock.now())) await renew().catch(() => undefined);
  const timer = setInterval(renewIfDue, checkEveryMs);
  timer.unref();

  return {
    name,
    type: 'builtin',
    capabilities: { builtHere: true, exactLife: true },
    async sign(request, signal) {
      const now = clock.now();
      if (now >= held.renewAt) {
        renewIfDue();
        // After more than a year without a start or a request the present one is of no use.
        if (now >= held.intermediateEnd && renewing) await abortable(renewing, signal);
      }
      return signLeaf(held, request, signal);
    },
    async signIntermediate(request, signal) {
      if (signal.aborted) throw SignetError.from(signal.reason);
      return { certificates: [await certifyIntermediate(settings, held.document, request, clock.now())] };
    },
    anchors: () => Promise.resolve([held.root]),
    issuersEnd: () => held.issuersEnd,
    health() {
      const canSign = clock.now() < held.issuersEnd;
      const ends = new Date(held.issuersEnd).toISOString();
      return Promise.resolve({
        canSign,
        detail: canSign ? `its CA certificates are good until ${ends}` : `its CA certificate ended at ${ends}`,
      });
    },
    onChange: changed.add,
    async close() {
      clearInterval(timer);
      await renewing?.catch(() => undefined);
    },
  };
}
