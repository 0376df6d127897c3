import { SignetError } from '../../base/errors.ts';
import type { Page } from '../store.ts';

const largestPage = 1000;

function badCursor(): SignetError {
  return new SignetError('INVALID_ARGUMENT', 'the page cursor is not one that this server gave');
}

export function checkLimit(limit: number): number {
  if (Number.isInteger(limit) && limit >= 1 && limit <= largestPage) return limit;
  throw new SignetError('INVALID_ARGUMENT', `a page has 1 to ${String(largestPage)} entries`);
}

/** For lists in descending row order: the cursor is the last row's id; without one, everything is before it. */
export function rowsBefore(cursor: string | undefined): number {
  if (cursor === undefined) return Number.MAX_SAFE_INTEGER;
  if (!/^[0-9]{1,15}$/.test(cursor)) throw badCursor();
  return Number(cursor);
}

/** For lists in the order of two text columns. */
export function pairAfter(cursor: string | undefined): readonly [string, string] {
  if (cursor === undefined) return ['', ''];
  if (cursor.length > 8192) throw badCursor();
  try {
    const pair: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
    if (Array.isArray(pair) && pair.length === 2 && typeof pair[0] === 'string' && typeof pair[1] === 'string') return [pair[0], pair[1]];
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw badCursor();
}

export function pairCursor(first: string, second: string): string {
  return Buffer.from(JSON.stringify([first, second])).toString('base64url');
}

/** Makes a page of at most `limit` from rows read with `limit + 1`: the surplus one only tells that there are more. */
export function page<R, T>(rows: readonly R[], limit: number, item: (row: R) => T, cursor: (row: R) => string): Page<T> {
  const kept = rows.slice(0, limit);
  const last = kept.at(-1);
  return { items: kept.map(item), next: rows.length > limit && last !== undefined ? cursor(last) : undefined };
}
