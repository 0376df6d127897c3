import { formatDuration } from '../base/duration.ts';

/** ISO 8601 to the second: sorts as text, and every program reads it. */
export function isoTime(ms: number): string {
  return ms === 0 ? '' : new Date(ms).toISOString().replace(/\.\d{3}Z$/, 'Z');
}

/** `in 12s`, `3m ago`: what a person wants of a time. */
export function relativeTime(ms: number, now: number): string {
  if (ms === 0) return '-';
  const away = Math.round((ms - now) / 1000) * 1000;
  if (away === 0) return 'now';
  return away > 0 ? `in ${formatDuration(away)}` : `${formatDuration(-away)} ago`;
}
