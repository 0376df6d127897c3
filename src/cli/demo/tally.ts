/** What the client of the demo has seen: the claim "0 failed" is made of these numbers and of nothing else. */
export interface Tally {
  readonly startedAt: number;
  readonly services: ReadonlyMap<string, ServiceTally>;
}

export interface ServiceTally {
  readonly requests: number;
  readonly failed: number;
  /** Distinct serials in the order seen, the newest last. */
  readonly serials: readonly string[];
  /** The newest reasons of failure, a few. */
  readonly errors: readonly string[];
  readonly lastSuccessAt: number | undefined;
  /** The longest time between two successes, in ms. */
  readonly longestGapMs: number;
}

export type Outcome = { readonly ok: true; readonly serial: string } | { readonly ok: false; readonly error: string };

export interface DemoSummary {
  readonly requests: number;
  readonly failed: number;
  readonly seconds: number;
  readonly services: readonly {
    readonly name: string;
    readonly requests: number;
    readonly failed: number;
    readonly rotations: number;
    readonly serials: readonly string[];
    readonly longestGapMs: number;
    readonly errors: readonly string[];
  }[];
}

const mostErrors = 10;
const nothing: ServiceTally = { requests: 0, failed: 0, serials: [], errors: [], lastSuccessAt: undefined, longestGapMs: 0 };

export function newTally(startedAt: number, services: readonly string[]): Tally {
  return { startedAt, services: new Map(services.map((name) => [name, nothing])) };
}

export function count(tally: Tally, service: string, outcome: Outcome, now: number): Tally {
  const before = tally.services.get(service) ?? nothing;
  return { ...tally, services: new Map(tally.services).set(service, counted(before, outcome, now)) };
}

function counted(before: ServiceTally, outcome: Outcome, now: number): ServiceTally {
  const requests = before.requests + 1;
  if (!outcome.ok) return { ...before, requests, failed: before.failed + 1, errors: [...before.errors, outcome.error].slice(-mostErrors) };
  const gap = before.lastSuccessAt === undefined ? 0 : now - before.lastSuccessAt;
  return {
    ...before,
    requests,
    serials: before.serials.includes(outcome.serial) ? before.serials : [...before.serials, outcome.serial],
    lastSuccessAt: now,
    longestGapMs: Math.max(before.longestGapMs, gap),
  };
}

/** A rotation counts when the client has seen the new serial. */
export function rotations(service: ServiceTally): number {
  return Math.max(0, service.serials.length - 1);
}

export function totals(tally: Tally): { readonly requests: number; readonly failed: number } {
  const all = [...tally.services.values()];
  return { requests: all.reduce((sum, one) => sum + one.requests, 0), failed: all.reduce((sum, one) => sum + one.failed, 0) };
}

export function summaryOf(tally: Tally, now: number): DemoSummary {
  const services = [...tally.services].map(([name, one]) => {
    const { requests, failed, serials, errors, longestGapMs } = one;
    return { name, requests, failed, rotations: rotations(one), serials, longestGapMs: Math.round(longestGapMs), errors };
  });
  return { ...totals(tally), seconds: Math.round((now - tally.startedAt) / 1000), services };
}
