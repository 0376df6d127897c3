import { z } from 'zod';
import type { Clock } from '../base/clock.ts';
import type { DeadlineHeap } from '../base/deadline-heap.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { sha256Hex } from '../x509/keys.ts';
import { chooseAnchors } from './anchor-choice.ts';
import type { AnchorRule, Withdrawn } from './anchor-choice.ts';
import type { BundleState, TrustBundle } from './trust-bundle.ts';

/** What a person would recognise an anchor by. */
export interface AnchorNotice {
  readonly authority: string;
  readonly sha256: string;
  readonly subject: string;
}

export interface AuthorityAnchors {
  /**
   * Takes up what an authority names as its anchors now. Durable and audited before it is visible. Throws
   * AUTHORITY_MISCONFIGURED if nothing of it may be trusted and nothing was before, INVALID_ARGUMENT for what is no anchor.
   */
  offer(authority: string, certificates: readonly Buffer[], rule: AnchorRule): Promise<void>;
  /** Applies another rule to what is trusted of an authority that can't be asked now. */
  enforce(authority: string, rule: AnchorRule): Promise<void>;
  /** Authorities that the configuration no longer names: theirs stay until the last certificate under them has ended. */
  retain(authorities: readonly string[], distrusted: ReadonlySet<string>): Promise<void>;
  /** Anchors that wait for the operator's approval. */
  waiting(): readonly AnchorNotice[];
  close(): void;
}

export interface AuthorityAnchorsDeps {
  readonly trust: Pick<TrustBundle, 'setSource' | 'retainSources' | 'contributed' | 'sourceNames'>;
  readonly state: BundleState;
  /** Durable when it resolves. */
  readonly audit: (action: 'trust-anchor' | 'distrust-anchor', notice: AnchorNotice) => Promise<void>;
  /** No certificate lives longer, in ms. */
  readonly longestLifeMs: () => number;
  readonly heap: Pick<DeadlineHeap, 'at'>;
  readonly clock: Clock;
  readonly log: Log;
}

const prefix = 'authority:';
const documentName = 'trust/withdrawn-anchors';
const hash = z.string().regex(/^[0-9a-f]{64}$/);
const schema = z.strictObject({ format: z.literal(1), until: z.record(z.string().max(200), z.record(hash, z.int())) });
const mostTries = 10;

/** The name under which an authority's anchors are in the trust bundle. */
export function anchorsSource(authority: string): string {
  return `${prefix}${authority}`;
}

/** Which anchors of which authority are in the bundle, over time: the shell around `chooseAnchors`. */
export function createAuthorityAnchors(deps: AuthorityAnchorsDeps): AuthorityAnchors {
  const { trust, clock, log } = deps;
  const waiting = new Map<string, readonly AnchorNotice[]>();
  const asked = new Map<string, { readonly offered: readonly Buffer[]; readonly rule: AnchorRule; cancel: () => void }>();
  let last: Promise<void> = Promise.resolve();
  let closed = false;

  async function take(authority: string, offered: readonly Buffer[], rule: AnchorRule): Promise<void> {
    const source = anchorsSource(authority);
    const trusted = trust.contributed(source);
    const withdrawn = await readWithdrawn(deps.state, authority);
    const choice = chooseAnchors({ offered, trusted, withdrawn, rule, now: clock.now(), longestLifeMs: deps.longestLifeMs() });
    waiting.set(
      authority,
      choice.waiting.map((der) => noticeOf(authority, der)),
    );
    for (const notice of waiting.get(authority) ?? []) {
      log.warn(notice, 'a root of this CA backend waits for approval: if it is right, add its SHA-256 to approvedAnchors');
    }
    if (choice.anchors.length === 0 && offered.length > 0 && trusted.length === 0) {
      throw new SignetError(
        'AUTHORITY_MISCONFIGURED',
        `no root of CA backend ${authority} may be trusted: of ${offered.map((der) => `${sha256Hex(der)} (${parseCertificate(der).subjectText})`).join(', ')} list those that are right in ca.backends.${authority}.approvedAnchors`,
      );
    }
    for (const der of choice.added) await deps.audit('trust-anchor', noticeOf(authority, der));
    await writeWithdrawn(deps.state, authority, choice.withdrawn);
    if (choice.anchors.length > 0) await trust.setSource(source, choice.anchors);
    else if (trusted.length > 0) await trust.retainSources(trust.sourceNames().filter((name) => name !== source));
    for (const der of choice.dropped) await deps.audit('distrust-anchor', noticeOf(authority, der));
    for (const der of choice.added) log.info(noticeOf(authority, der), 'a root of this CA backend is trusted from now on');
    for (const der of choice.dropped) log.info(noticeOf(authority, der), 'a root of this CA backend is no longer trusted');
    ask(authority, offered, rule, choice.nextAt);
  }

  /** Once more when a withdrawn one may go. */
  function ask(authority: string, offered: readonly Buffer[], rule: AnchorRule, at: number | undefined): void {
    asked.get(authority)?.cancel();
    if (at === undefined || closed) {
      asked.delete(authority);
      return;
    }
    const cancel = deps.heap.at(at, () => {
      queued(() => take(authority, offered, rule)).catch((error: unknown) => {
        log.error({ authority, err: error }, 'anchors that a CA backend gave up could not be dropped; they stay until the next start');
      });
    });
    asked.set(authority, { offered, rule, cancel });
  }

  /** One after the other: each reads what the one before has written. */
  function queued(work: () => Promise<void>): Promise<void> {
    const mine = last.then(work);
    last = mine.catch(() => undefined);
    return mine;
  }

  return {
    offer: (authority, certificates, rule) => queued(() => take(authority, certificates, rule)),
    enforce: (authority, rule) =>
      queued(async () => {
        const withdrawn = await readWithdrawn(deps.state, authority);
        const named = trust.contributed(anchorsSource(authority)).filter((der) => !withdrawn.has(sha256Hex(der)));
        await take(authority, named, rule);
      }),
    retain: (authorities, distrusted) =>
      queued(async () => {
        for (const name of trust.sourceNames()) {
          if (!name.startsWith(prefix)) continue;
          const authority = name.slice(prefix.length);
          if (!authorities.includes(authority)) await take(authority, [], { approved: undefined, distrusted });
        }
      }),
    waiting: () => [...waiting.values()].flat(),
    close() {
      closed = true;
      for (const { cancel } of asked.values()) cancel();
    },
  };
}

function noticeOf(authority: string, der: Buffer): AnchorNotice {
  return { authority, sha256: sha256Hex(der), subject: parseCertificate(der).subjectText.slice(0, 300) };
}

interface StoredWithdrawn {
  readonly epoch: number;
  readonly until: z.infer<typeof schema>['until'];
}

async function readAll(state: BundleState): Promise<StoredWithdrawn> {
  const stored = await state.read(documentName);
  if (!stored) return { epoch: 0, until: {} };
  try {
    return { epoch: stored.epoch, until: schema.parse(JSON.parse(stored.value.toString('utf8'))).until };
  } catch (error) {
    throw new SignetError('STORE_CORRUPT', 'the list of withdrawn anchors in the store is damaged', { cause: error });
  }
}

async function readWithdrawn(state: BundleState, authority: string): Promise<Withdrawn> {
  const { until } = await readAll(state);
  return new Map(Object.entries(until[authority] ?? {}));
}

async function writeWithdrawn(state: BundleState, authority: string, withdrawn: Withdrawn): Promise<void> {
  for (let attempt = 0; attempt < mostTries; attempt++) {
    const { epoch, until } = await readAll(state);
    const mine = Object.fromEntries(withdrawn);
    if (JSON.stringify(until[authority] ?? {}) === JSON.stringify(mine)) return;
    const { [authority]: _, ...others } = until;
    const next = withdrawn.size === 0 ? others : { ...others, [authority]: mine };
    if (await state.compareAndSet(documentName, epoch, Buffer.from(JSON.stringify({ format: 1, until: next })))) return;
  }
  throw new SignetError('INTERNAL', 'the list of withdrawn anchors is being changed by too many at once');
}
