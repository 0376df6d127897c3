import type { SQLOutputValue } from 'node:sqlite';
import { SignetError } from '../../base/errors.ts';

/** A row as node:sqlite gives it. */
export type Row = Record<string, SQLOutputValue>;

// A column of another type than the schema's means a damaged or foreign file, never a case to guess at.
function wrongType(column: string): SignetError {
  return new SignetError('STORE_CORRUPT', `column ${column} of the database holds a value of the wrong type; restore a backup`);
}

export function text(row: Row, column: string): string {
  const value = row[column];
  if (typeof value === 'string') return value;
  throw wrongType(column);
}

export function integer(row: Row, column: string): number {
  const value = row[column];
  if (typeof value === 'number') return value;
  throw wrongType(column);
}

export function blob(row: Row, column: string): Buffer {
  const value = row[column];
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  throw wrongType(column);
}

export function optionalInteger(row: Row | undefined, column: string): number | undefined {
  const value = row?.[column];
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'number') return value;
  throw wrongType(column);
}
