import { setTimeout as pause } from 'node:timers/promises';

export interface Histogram {
  /** How many lay at or below each upper bound, in seconds, ascending; the last is infinite. */
  readonly buckets: readonly (readonly [number, number])[];
  readonly count: number;
  readonly sum: number;
}

/** A histogram without labels, from a page of metrics. */
export function histogramOf(page: string, name: string): Histogram {
  const buckets = [...page.matchAll(new RegExp(`^${name}_bucket\\{le="([^"]+)"\\} (\\S+)$`, 'gm'))].map(
    ([, le = '', count]) => [le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le), Number(count)] as const,
  );
  return { buckets, count: total(page, `${name}_count`), sum: total(page, `${name}_sum`) };
}

export function minus(after: Histogram, before: Histogram): Histogram {
  return {
    buckets: after.buckets.map(([le, count], i) => [le, count - (before.buckets[i]?.[1] ?? 0)] as const),
    count: after.count - before.count,
    sum: after.sum - before.sum,
  };
}

/** Within a bucket, taken as evenly spread. */
export function quantile({ buckets, count }: Histogram, share: number): number {
  const wanted = count * share;
  let [lower, below] = [0, 0];
  for (const [upper, upTo] of buckets) {
    if (upTo >= wanted) return Number.isFinite(upper) ? lower + ((upper - lower) * (wanted - below)) / Math.max(1, upTo - below) : lower;
    [lower, below] = [upper, upTo];
  }
  return Number.NaN;
}

/** One by one, from a sum and a count that are read often enough to see each of them come. In the metric's own unit. */
export async function sampledDurations(page: () => Promise<string>, name: string, forMs: number): Promise<number[]> {
  const durations: number[] = [];
  const end = performance.now() + forMs;
  let [count, sum] = [Number.NaN, Number.NaN];
  while (performance.now() < end) {
    const text = await page();
    const next = [total(text, `${name}_count`), total(text, `${name}_sum`)] as const;
    const more = next[0] - count;
    // Two between two readings are told by their mean.
    for (let i = 0; i < more; i++) durations.push((next[1] - sum) / more);
    [count, sum] = next;
    await pause(100);
  }
  return durations;
}

/** Over all label sets. */
function total(page: string, name: string): number {
  return [...page.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))].reduce((sum, [, value]) => sum + Number(value), 0);
}
