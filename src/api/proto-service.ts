import type { ServiceDefinition } from '@grpc/grpc-js';
import { loadPackageDefinition } from '@grpc/grpc-js';
import type { Options } from '@grpc/proto-loader';
import { loadSync } from '@grpc/proto-loader';
import { SignetError } from '../base/errors.ts';
import { protoRoot } from '../base/proto-files.ts';
import { readFields } from '../base/wire-reader.ts';

/** int64 as numbers: ours are times and counts, far below 2^53. */
const options: Options = { includeDirs: [protoRoot], longs: Number, enums: String, defaults: true, oneofs: true };

/** The definition of `signet.v1.AdminService` and the like; `file` is relative to proto/. */
export function protoService(file: string, name: string): ServiceDefinition {
  const root = loadPackageDefinition(loadSync(file, options));
  let node: unknown = root;
  for (const part of name.split('.'))
    node = typeof node === 'object' || typeof node === 'function' ? (node as Record<string, unknown> | null)?.[part] : undefined;
  if (typeof node === 'function' && 'service' in node) {
    const methods = Object.entries(node.service as ServiceDefinition);
    return Object.fromEntries(
      methods.map(([method, definition]) => [method, { ...definition, requestDeserialize: strictly(definition.requestDeserialize) }]),
    );
  }
  throw new Error(`${file} declares no service ${name}`);
}

/**
 * The usual library takes a string that is cut off for a whole one, and grpc-js answers what can't be decoded with
 * INTERNAL and no reason. So a request is walked before it is decoded, and one that is none is handed on as such, for
 * `checkDecoded` to refuse.
 */
function strictly(decode: (bytes: Buffer) => unknown): (bytes: Buffer) => unknown {
  return (bytes) => {
    try {
      readFields(bytes, ignore);
      return decode(bytes);
    } catch {
      return undecodable;
    }
  };
}

function ignore(): void {
  // Only the walk matters.
}

const undecodable = Symbol('undecodable');

/** Throws INVALID_ARGUMENT if the bytes of this call's request were none. */
export function checkDecoded(request: unknown): void {
  if (request === undecodable) throw new SignetError('INVALID_ARGUMENT', 'not a protobuf message of the type that this method takes');
}
