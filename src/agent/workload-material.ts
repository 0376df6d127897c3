import type { KeyObject } from 'node:crypto';
import type { SpiffeId, TrustDomain } from '../spiffe/id.ts';
import type { CheckedAnchors, CheckedChain } from '../x509/material.ts';

/** One version of the anchors of one trust domain. An equal version is equal bytes. */
export interface TrustVersion {
  /** The control plane's counter; moves only when the bytes do. */
  readonly generation: number;
  readonly anchors: CheckedAnchors;
}

/**
 * All of what one workload is and trusts at one moment. The chain was verified when it came, against the anchors of then;
 * should newer ones no longer carry it, it is replaced at once. An identical object is an identical state.
 */
export interface WorkloadMaterial {
  /** Counts this process's changes of this workload's material, from 1. */
  readonly generation: number;
  readonly spiffeId: SpiffeId;
  /** Leaf first, no root. */
  readonly chain: CheckedChain;
  /** The leaf's private key. It was made here and is nowhere else, but for consumers on this host and the sealed cache. */
  readonly key: KeyObject;
  /** By trust domain; the workload's own is always there. */
  readonly anchors: ReadonlyMap<TrustDomain, TrustVersion>;
}

/** One workload's material over time. */
export interface WorkloadMaterialFeed {
  /** Undefined until there is some; from then on the newest, also after it has ended: who shows it to others looks at `chain.notAfter`. */
  current(): WorkloadMaterial | undefined;
  /** The listener is called after each change of `current`. It must not throw. Returns how to stop. */
  subscribe(listener: () => void): () => void;
}
