const leastMarginMs = 1000;
const mostMarginMs = 30_000;

/**
 * Istio's API takes a duration and counts it from whenever the CA signs, by the CA's clock; we promise an end. So a
 * twentieth less is asked for, at least 1 s and at most 30 s, for the way there and for clocks that differ.
 * At least a second: 0 would mean the CA's own default.
 */
export function validitySeconds(lifeMs: number): number {
  const margin = Math.min(Math.max(lifeMs / 20, leastMarginMs), mostMarginMs);
  return Math.max(1, Math.floor((lifeMs - margin) / 1000));
}
