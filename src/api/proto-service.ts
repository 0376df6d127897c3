import type { ServiceDefinition } from '@grpc/grpc-js';
import { loadPackageDefinition } from '@grpc/grpc-js';
import type { Options } from '@grpc/proto-loader';
import { loadSync } from '@grpc/proto-loader';
import { protoRoot } from '../base/proto-files.ts';

/** int64 as numbers: ours are times and counts, far below 2^53. */
const options: Options = { includeDirs: [protoRoot], longs: Number, enums: String, defaults: true, oneofs: true };

/** The definition of `signet.v1.AdminService` and the like; `file` is relative to proto/. */
export function protoService(file: string, name: string): ServiceDefinition {
  const root = loadPackageDefinition(loadSync(file, options));
  let node: unknown = root;
  for (const part of name.split('.'))
    node = typeof node === 'object' || typeof node === 'function' ? (node as Record<string, unknown> | null)?.[part] : undefined;
  if (typeof node === 'function' && 'service' in node) return node.service as ServiceDefinition;
  throw new Error(`${file} declares no service ${name}`);
}
