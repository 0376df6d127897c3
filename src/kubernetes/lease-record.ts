import { z } from 'zod';

/** Who leads, as a Lease of coordination.k8s.io/v1 says it. */
export interface LeaseRecord {
  /** Empty once it was given up. */
  readonly holder: string;
  readonly durationMs: number;
  readonly transitions: number;
  readonly acquireTime: string | undefined;
  /** As it was written; it says only whether the holder has written again. Nobody's clock is compared with ours. */
  readonly renewTime: string | undefined;
  /** Of the object: a write that names an old one is refused. */
  readonly resourceVersion: string;
}

/** A record, and since when we see it so, in ms of a clock that never jumps. */
export interface LeaseSeen {
  readonly record: LeaseRecord | undefined;
  readonly since: number;
}

export interface LeaseTerms {
  /** So long after its last renewal a holder is taken for gone. */
  readonly durationMs: number;
  /** A holder that could not renew for so long stops by itself; well before the duration. */
  readonly renewDeadlineMs: number;
  readonly retryMs: number;
}

/** As Kubernetes' own components have them (k8s.io/component-base, LeaderElectionConfiguration). */
export const leaseTerms: LeaseTerms = { durationMs: 15_000, renewDeadlineMs: 10_000, retryMs: 2000 };

/** The same record seen again keeps its time: a holder that has stopped writing is found by that. */
export function see(before: LeaseSeen | undefined, record: LeaseRecord | undefined, now: number): LeaseSeen {
  const old = before?.record;
  const same = before !== undefined && old?.holder === record?.holder && old?.renewTime === record?.renewTime;
  return { record, since: same ? before.since : now };
}

/** What to do about a lease: make it, hold on to it, take it over from one that is gone, or leave it alone. */
export function decide(self: string, { record, since }: LeaseSeen, now: number): 'create' | 'renew' | 'take' | 'wait' {
  if (!record) return 'create';
  if (record.holder === self) return 'renew';
  if (record.holder === '' || now - since >= record.durationMs) return 'take';
  return 'wait';
}

const leaseObject = z.object({
  metadata: z.object({ resourceVersion: z.string() }),
  spec: z
    .object({
      holderIdentity: z.string().nullish(),
      leaseDurationSeconds: z.number().nullish(),
      leaseTransitions: z.number().nullish(),
      acquireTime: z.string().nullish(),
      renewTime: z.string().nullish(),
    })
    .optional(),
});

export function readLease(object: unknown, terms: LeaseTerms): LeaseRecord {
  const { metadata, spec = {} } = leaseObject.parse(object);
  return {
    holder: spec.holderIdentity ?? '',
    durationMs: spec.leaseDurationSeconds ? spec.leaseDurationSeconds * 1000 : terms.durationMs,
    transitions: spec.leaseTransitions ?? 0,
    acquireTime: spec.acquireTime ?? undefined,
    renewTime: spec.renewTime ?? undefined,
    resourceVersion: metadata.resourceVersion,
  };
}

/** The lease as `self` writes it at a wall-clock time in ms. `before` undefined: it is new. An empty `self` gives it up. */
export function writeLease(
  place: { readonly namespace: string; readonly name: string },
  self: string,
  before: LeaseRecord | undefined,
  terms: LeaseTerms,
  wallClock: number,
): object {
  const now = microTime(wallClock);
  const mine = before?.holder === self;
  return {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { ...place, ...(before ? { resourceVersion: before.resourceVersion } : {}) },
    spec: {
      holderIdentity: self,
      leaseDurationSeconds: Math.ceil((self === '' ? 1000 : terms.durationMs) / 1000),
      leaseTransitions: before ? before.transitions + (mine || self === '' ? 0 : 1) : 0,
      acquireTime: (mine || self === '' ? before?.acquireTime : undefined) ?? now,
      renewTime: now,
    },
  };
}

/** A MicroTime: six digits behind the second. */
function microTime(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000Z');
}
