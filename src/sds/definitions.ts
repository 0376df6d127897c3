import { loadSync } from '@grpc/proto-loader';
import type { MessageTypeDefinition, PackageDefinition } from '@grpc/proto-loader';
import { SignetError } from '../base/errors.ts';
import { protoRoot } from '../base/proto-files.ts';

let loaded: PackageDefinition | undefined;

/** Our .proto files of the service, read at first use. */
function definitions(): PackageDefinition {
  loaded ??= loadSync('envoy/service/secret/v3/sds.proto', { includeDirs: [protoRoot], keepCase: true, defaults: true });
  return loaded;
}

const discovery = 'envoy.service.discovery.v3';

export type Decode = (bytes: Buffer) => object;

/** Throws INVALID_ARGUMENT for what isn't this message. */
export function decoder(message: 'DiscoveryRequest' | 'DeltaDiscoveryRequest'): Decode {
  const definition = definitions()[`${discovery}.${message}`];
  if (!definition || !isMessage(definition)) throw new SignetError('INTERNAL', `no definition of ${message}`);
  return (bytes) => {
    try {
      return definition.deserialize(bytes);
    } catch {
      // The library's error can quote the input: it is dropped.
      throw new SignetError('INVALID_ARGUMENT', `not a ${message}`);
    }
  };
}

function isMessage(definition: object): definition is MessageTypeDefinition<object, object> {
  return 'deserialize' in definition;
}
