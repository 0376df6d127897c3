/**
 * The floor: grpc-js and TLS, and nothing of ours. It takes whoever comes, gives every stream the same bundle, and keeps no
 * account of it: what our server costs over this is ours, and what this costs is the library's. Ports as go-control-plane's peer has them.
 */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import * as grpc from '@grpc/grpc-js';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { bytesField, textField } from '../../src/base/wire-writer.ts';

const { values } = parseArgs({
  options: { cert: { type: 'string', default: '' }, key: { type: 'string', default: '' }, bundle: { type: 'string', default: '' } },
});
const secretType = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret';
const bundle = readFileSync(values.bundle);
let version = 0;

/** A DiscoveryResponse without its nonce; the field numbers are those of src/sds/response.ts. */
function nextBody(): Buffer {
  version++;
  const pem = Buffer.concat([bundle, Buffer.from(`# ${String(version)}\n`)]);
  const secret = Buffer.concat([textField(1, 'ROOTCA'), bytesField(4, bytesField(1, bytesField(2, pem)))]);
  return Buffer.concat([
    textField(1, String(version)),
    bytesField(2, textField(1, secretType), bytesField(2, secret)),
    textField(4, secretType),
  ]);
}

let body = nextBody();
const streams = new Set<() => void>();

function open(call: ServerDuplexStream<Buffer, Buffer>): void {
  let nonce = 0;
  const send = (): void => {
    call.write(Buffer.concat([body, textField(5, String(++nonce))]));
  };
  call.on('data', () => {
    if (nonce === 0) send();
  });
  streams.add(send);
  call.on('end', () => {
    call.end();
  });
  call.on('close', () => streams.delete(send));
}

const asIs = (bytes: Buffer): Buffer => bytes;
const server = new grpc.Server({ 'grpc.max_concurrent_streams': 20_000 });
server.addService(
  {
    StreamSecrets: {
      path: '/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets',
      requestStream: true,
      responseStream: true,
      requestSerialize: asIs,
      requestDeserialize: asIs,
      responseSerialize: asIs,
      responseDeserialize: asIs,
    },
  },
  { StreamSecrets: open },
);
const pair = { cert_chain: readFileSync(values.cert), private_key: readFileSync(values.key) };
server.bindAsync('127.0.0.1:15020', grpc.ServerCredentials.createSsl(null, [pair]), (error) => {
  if (error) throw error;
  createServer((_request, response) => {
    body = nextBody();
    for (const send of streams) send();
    response.end();
  }).listen(15_021, '127.0.0.1', () => {
    console.log('ready');
  });
});
process.on('SIGTERM', () => process.exit(0));
