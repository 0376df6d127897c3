import { SignetError } from '../base/errors.ts';
import { readFields, textOf } from '../base/wire-reader.ts';
import { isSpiffeId } from '../spiffe/id.ts';
import type { SpiffeId } from '../spiffe/id.ts';
import { createCsr } from '../x509/csr.ts';
import type { KeyPair } from '../x509/keys.ts';

/**
 * Asks with a CSR that names nobody: the server knows whose token it is, and certifies nothing else. Where its CA needs the
 * name in the CSR the server says which, and is asked once more.
 */
export async function askWithCsr<Answer>(
  key: Pick<KeyPair, 'privateKey' | 'spki'>,
  ask: (csr: Buffer) => Promise<Answer>,
): Promise<Answer> {
  try {
    return await ask(createCsr(key, []));
  } catch (error) {
    const name = requiredName(error);
    if (name === undefined) throw error;
    return ask(createCsr(key, [name]));
  }
}

function requiredName(error: unknown): SpiffeId | undefined {
  if (!(error instanceof SignetError) || error.code !== 'CSR_NAME_REQUIRED') return undefined;
  const said = error.metadata['spiffe_id'] ?? metadataOf(error.cause, 'spiffe_id');
  return said !== undefined && isSpiffeId(said) ? said : undefined;
}

/** Field numbers, from proto/google/rpc. */
const statusDetails = 3;
const anyValue = 2;
const errorInfoMetadata = 3;
const entry = { key: 1, value: 2 } as const;
const longestDetails = 8192;

/** One entry of the ErrorInfo of a failed call. What doesn't parse is as good as nothing. */
function metadataOf(cause: unknown, key: string): string | undefined {
  if (!hasTrailers(cause)) return undefined;
  const [trailer] = cause.metadata.get('grpc-status-details-bin');
  if (!Buffer.isBuffer(trailer) || trailer.length > longestDetails) return undefined;
  let found: string | undefined;
  const within = (bytes: Buffer, wanted: number, take: (value: Buffer) => void): void => {
    readFields(bytes, (field, value) => {
      if (field === wanted && typeof value !== 'number') take(value);
    });
  };
  try {
    within(trailer, statusDetails, (any) => {
      within(any, anyValue, (info) => {
        within(info, errorInfoMetadata, (pair) => {
          const texts = new Map<number, string | undefined>();
          readFields(pair, (field, value) => texts.set(field, textOf(value)));
          if (texts.get(entry.key) === key) found = texts.get(entry.value);
        });
      });
    });
  } catch {
    return undefined;
  }
  return found;
}

function hasTrailers(cause: unknown): cause is { readonly metadata: { get(key: string): unknown[] } } {
  return cause instanceof Error && 'metadata' in cause;
}
