import { SignetError } from './errors.ts';

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const longestMs = 100 * 365 * 86_400_000;

/** `500ms`, `20s`, `10m`, `12h`, `7d`, and sums such as `1h30m`, in milliseconds. Throws INVALID_ARGUMENT. */
export function parseDuration(text: string): number {
  const parts = text.length <= 40 ? text.match(/^(?:\d{1,12}(?:ms|s|m|h|d))+$/) : null;
  if (!parts) throw new SignetError('INVALID_ARGUMENT', `"${text.slice(0, 40)}" is not a duration; write for example 20s, 10m, 12h or 7d`);
  let total = 0;
  for (const [, digits, unit] of text.matchAll(/(\d+)(ms|s|m|h|d)/g)) total += Number(digits) * (unitMs[unit ?? ''] ?? 0);
  if (total > longestMs) throw new SignetError('INVALID_ARGUMENT', `${text} is longer than a hundred years`);
  return total;
}

/** The shortest exact form with at most two units, for people: 90_000 is `1m30s`. */
export function formatDuration(ms: number): string {
  if (ms < 0) return `-${formatDuration(-ms)}`;
  if (ms < 1000) return `${String(Math.round(ms))}ms`;
  let rest = Math.round(ms / 1000) * 1000;
  const words: string[] = [];
  for (const unit of ['d', 'h', 'm', 's']) {
    const size = unitMs[unit] ?? 1;
    const count = Math.floor(rest / size);
    if (count > 0) words.push(`${String(count)}${unit}`);
    rest -= count * size;
    if (words.length === 2) break;
  }
  return words.join('') || '0s';
}
