import type { ServiceDefinition } from '@grpc/grpc-js';
import { loadPackageDefinition } from '@grpc/grpc-js';
import type { Options } from '@grpc/proto-loader';
import { loadSync } from '@grpc/proto-loader';
import { SignetError } from '../base/errors.ts';
import type { ErrorCode } from '../base/errors.ts';
import { protoRoot } from '../base/proto-files.ts';
import { readFields } from '../base/wire-reader.ts';

/** int64 as numbers: ours are times and counts, far below 2^53. */
const options: Options = { includeDirs: [protoRoot], longs: Number, enums: String, defaults: true, oneofs: true };

/** How long fields of a request may be, by number, beyond the bound of the whole message. */
export type FieldBounds = ReadonlyMap<number, { readonly name: string; readonly bytes: number }>;
const unbounded: FieldBounds = new Map();

/** The definition of `signet.v1.AdminService` and the like; `file` is relative to proto/, `bounds` are by method. */
export function protoService(file: string, name: string, bounds: Readonly<Record<string, FieldBounds>> = {}): ServiceDefinition {
  const root = loadPackageDefinition(loadSync(file, options));
  let node: unknown = root;
  for (const part of name.split('.'))
    node = typeof node === 'object' || typeof node === 'function' ? (node as Record<string, unknown> | null)?.[part] : undefined;
  if (typeof node === 'function' && 'service' in node) {
    const methods = Object.entries(node.service as ServiceDefinition);
    return Object.fromEntries(
      methods.map(([method, definition]) => [
        method,
        { ...definition, requestDeserialize: strictly(definition.requestDeserialize, bounds[method] ?? unbounded) },
      ]),
    );
  }
  throw new Error(`${file} declares no service ${name}`);
}

/**
 * The usual library takes a string that is cut off for a whole one, and grpc-js answers what can't be decoded with
 * INTERNAL and no reason. So a request is walked before it is decoded, and one that is none is handed on as such, for
 * `checkDecoded` to refuse.
 */
function strictly(decode: (bytes: Buffer) => unknown, bounds: FieldBounds): (bytes: Buffer) => unknown {
  return (bytes) => {
    try {
      const lengths = new Map<number, number>();
      readFields(bytes, (field, value) => {
        // What is sent in parts is merged, and so has the length of them all.
        if (bounds.has(field) && typeof value !== 'number') lengths.set(field, (lengths.get(field) ?? 0) + value.length);
      });
      for (const [field, length] of lengths) {
        const bound = bounds.get(field);
        if (bound && length > bound.bytes)
          return new Refused('TOO_LARGE', `${bound.name} has ${String(length)} bytes: at most ${String(bound.bytes)} are taken`);
      }
      return decode(bytes);
    } catch {
      return undecodable;
    }
  };
}

/** Stands where the request would be. */
class Refused {
  readonly code: ErrorCode;
  readonly message: string;
  constructor(code: ErrorCode, message: string) {
    this.code = code;
    this.message = message;
  }
}

const undecodable = new Refused('INVALID_ARGUMENT', 'not a protobuf message of the type that this method takes');

/** Throws INVALID_ARGUMENT if the bytes of this call's request were none, TOO_LARGE if a field is longer than its bound. */
export function checkDecoded(request: unknown): void {
  if (request instanceof Refused) throw new SignetError(request.code, request.message);
}
