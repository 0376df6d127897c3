import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { z } from 'zod';
import { protoRoot } from '../../src/base/proto-files.ts';

export interface Subscriber {
  /** From before the connection is made until the certificate is there. */
  readonly firstMs: number;
  /** `performance.now()` of its first certificate. */
  readonly firstAt: number;
  close(): void;
}

const typeUrl = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret';
const responseShape = z.object({ versionInfo: z.string(), nonce: z.string(), resources: z.array(z.unknown()).optional() });
const definition = loadSync('envoy/service/secret/v3/sds.proto', { includeDirs: [protoRoot] })[
  'envoy.service.secret.v3.SecretDiscoveryService'
];
const method = z.custom<grpc.ServiceDefinition>((value) => typeof value === 'object').parse(definition)['StreamSecrets'];
if (!method) throw new Error('the proto has no StreamSecrets');
const { path, requestSerialize, responseDeserialize } = method;

/** As an Envoy beside a workload: a connection of its own, one stream for one certificate, everything acknowledged. Rejects if it ends before. */
export function subscribe(address: string, name: string): Promise<Subscriber> {
  const before = performance.now();
  const client = new grpc.Client(address, grpc.credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
  const call = client.makeBidiStreamRequest<unknown, unknown>(path, requestSerialize, responseDeserialize);
  const close = (): void => {
    call.cancel();
    client.close();
  };
  return new Promise((resolve, reject) => {
    call.on('data', (message: unknown) => {
      const firstAt = performance.now();
      const { versionInfo, nonce, resources } = responseShape.parse(message);
      call.write({ typeUrl, resourceNames: [name], versionInfo, responseNonce: nonce });
      // Only a certificate is answered with one: an unknown name leaves the stream open and empty.
      if (resources?.length === 1) resolve({ firstMs: firstAt - before, firstAt, close });
    });
    call.on('error', (error) => {
      close();
      reject(error);
    });
    call.write({ typeUrl, resourceNames: [name], node: { id: 'sidecar' } });
  });
}
