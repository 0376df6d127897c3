import type { Asked } from '../api/authority-health.ts';
import type { Clock } from '../base/clock.ts';
import type { Closing } from '../base/closing.ts';
import type { DeadlineHeap } from '../base/deadline-heap.ts';
import type { Log } from '../base/log.ts';
import type { Authority } from '../ca/authority.ts';
import type { Ledger } from '../ledger/ledger.ts';
import type { Store } from '../store/store.ts';
import { createActiveAnchors } from '../trust/active-anchors.ts';
import type { ActiveAnchors } from '../trust/active-anchors.ts';
import { createAuthorityAnchors } from '../trust/authority-anchors.ts';
import type { AuthorityAnchors } from '../trust/authority-anchors.ts';
import { openTrustBundle } from '../trust/trust-bundle.ts';
import type { TrustBundle } from '../trust/trust-bundle.ts';
import { createAnchors } from './anchors.ts';
import type { Anchors } from './anchors.ts';
import type { Authorities } from './authorities.ts';
import type { Config } from './config/schema.ts';

/** What workloads trust, and what may be signed under. */
export interface Trust {
  readonly bundle: TrustBundle;
  readonly anchors: Anchors;
  readonly active: ActiveAnchors;
  /** The backends in use, as status asks them: their health, and what waits for approval. */
  asked(): readonly Asked[];
  /** Certificates of this configuration are among those that can be out there. */
  livesOf(config: Config): void;
}

/** Backdating adds to what is asked for. */
const marginMs = 3_600_000;

export async function openTrust(parts: {
  readonly config: Config;
  readonly authorities: Authorities;
  readonly store: Pick<Store, 'trust' | 'audit'>;
  readonly ledger: Pick<Ledger, 'streams'>;
  readonly bundleFile: string;
  readonly heap: DeadlineHeap;
  readonly closing: Closing;
  readonly clock: Clock;
  readonly log: Log;
}): Promise<Trust> {
  const { config, store, ledger, heap, closing, clock, log } = parts;
  const bundle = await openTrustBundle({ state: store.trust, clock, log });
  closing.add('trust', bundle.close);
  const hasBundle = bundle.sourceNames().length > 0;
  let longestLifeMs = 0;
  const livesOf = ({ policy }: Config): void => {
    const downstream = policy.downstream.map(({ maxTtl }) => maxTtl);
    longestLifeMs = Math.max(longestLifeMs, ...Object.values(policy.tiers), ...downstream);
  };
  livesOf(config);
  const chosen = createAuthorityAnchors({
    trust: bundle,
    state: store.trust,
    audit: (action, { authority, sha256, subject }) =>
      store.audit.append([{ at: clock.now(), actor: `authority:${authority}`, action, subject: sha256, detail: subject }]),
    longestLifeMs: () => longestLifeMs + marginMs,
    heap,
    clock,
    log,
  });
  closing.add('chosen anchors', chosen.close);
  const anchors = createAnchors({ trust: bundle, chosen, bundleFile: parts.bundleFile, log });
  closing.add('anchors', anchors.close);
  const follow = (): ActiveAnchors =>
    createActiveAnchors({
      bundle: () => (bundle.sourceNames().length === 0 ? undefined : bundle.current()),
      subscribe: bundle.subscribe,
      lagging: (generation) => laggards(ledger, generation),
      clock,
      log,
    });
  // Before the first bundle of all there is nobody to wait for.
  const before = hasBundle ? follow() : undefined;
  await anchors.adopt(parts.authorities.current, config);
  await anchors.settle(config);
  const active = before ?? follow();
  closing.add('active anchors', active.close);
  return {
    bundle,
    anchors,
    active,
    asked: () => [...parts.authorities.current.values()].map((authority) => askedWith(authority, chosen)),
    livesOf,
  };
}

/** Streams that were sent a bundle and have not acknowledged this generation or a later one. */
function laggards(ledger: Pick<Ledger, 'streams'>, generation: number): number {
  return ledger
    .streams()
    .filter(({ secrets }) =>
      secrets.some(({ type, state, generation: held }) => type === 'validation' && (state !== 'acknowledged' || (held ?? 0) < generation)),
    ).length;
}

function askedWith({ name, type, health }: Authority, chosen: AuthorityAnchors): Asked {
  return {
    name,
    type,
    async health(signal) {
      const answer = await health(signal);
      const waiting = chosen.waiting().filter(({ authority }) => authority === name);
      if (waiting.length === 0) return answer;
      const roots = waiting.map(({ sha256, subject }) => `${sha256} (${subject})`).join(', ');
      return { ...answer, detail: `${answer.detail}; a root waits for approval in approvedAnchors: ${roots}` };
    },
  };
}
