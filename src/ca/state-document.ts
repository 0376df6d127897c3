import { z } from 'zod';
import { SignetError } from '../base/errors.ts';
import type { CaState } from './ca-state.ts';

const largestDocument = 1024 * 1024;

/** Bytes in a JSON document, as strict base64. */
export function base64Bytes(most: number): z.ZodType<Buffer, string> {
  return z
    .base64()
    .max(Math.ceil(most / 3) * 4)
    .transform((text) => Buffer.from(text, 'base64'));
}

/** A JSON document of CA state, checked; undefined if there is none yet. Throws STORE_CORRUPT. */
export async function readDocument<T>(
  state: CaState,
  name: string,
  schema: z.ZodType<T>,
): Promise<{ readonly epoch: number; readonly value: T } | undefined> {
  const stored = await state.read(name);
  if (!stored) return undefined;
  if (stored.value.length > largestDocument) throw corrupt(name);
  try {
    return { epoch: stored.epoch, value: schema.parse(JSON.parse(stored.value.toString('utf8'))) };
  } catch (error) {
    throw corrupt(name, error);
  }
}

function corrupt(name: string, cause?: unknown): SignetError {
  return new SignetError('STORE_CORRUPT', `the CA state ${name} in the store is damaged or was written by a newer Signet`, { cause });
}

/** The JSON form of what the schemas read: bytes as base64. */
export function encodeDocument(document: object): Buffer {
  return Buffer.from(
    JSON.stringify(document, (_key, value: unknown) => (isBufferJson(value) ? Buffer.from(value.data).toString('base64') : value)),
  );
}

// JSON.stringify has called Buffer.toJSON before its replacer sees the value.
function isBufferJson(value: unknown): value is { readonly type: 'Buffer'; readonly data: readonly number[] } {
  return (
    typeof value === 'object' &&
    value !== null &&
    'type' in value &&
    value.type === 'Buffer' &&
    'data' in value &&
    Array.isArray(value.data)
  );
}
