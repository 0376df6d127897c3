/**
 * The floor: TLS and a library, and nothing of ours. It takes whoever comes, gives every stream the same bundle, and keeps no
 * account of it: what our server costs over this is ours, and what this costs is the library's: grpc-js, or Node's HTTP/2
 * alone, which nothing that is built on it can be ahead of. Ports as go-control-plane's peer has them.
 */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createSecureServer } from 'node:http2';
import type { ServerHttp2Stream } from 'node:http2';
import { parseArgs } from 'node:util';
import * as grpc from '@grpc/grpc-js';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { bytesField, textField } from '../../src/base/wire-writer.ts';

const { values } = parseArgs({
  options: {
    library: { type: 'string', default: 'grpc-js' },
    cert: { type: 'string', default: '' },
    key: { type: 'string', default: '' },
    bundle: { type: 'string', default: '' },
  },
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

/** `write` takes a message. */
function open(call: ServerDuplexStream<Buffer, Buffer> | ServerHttp2Stream, write: (message: Buffer) => void): void {
  let nonce = 0;
  const send = (): void => {
    write(Buffer.concat([body, textField(5, String(++nonce))]));
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

const port = 15_020;
const pair = { cert: readFileSync(values.cert), key: readFileSync(values.key) };

function serveByGrpc(listening: () => void): void {
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
    {
      StreamSecrets: (call: ServerDuplexStream<Buffer, Buffer>) => {
        open(call, (message) => call.write(message));
      },
    },
  );
  const credentials = grpc.ServerCredentials.createSsl(null, [{ cert_chain: pair.cert, private_key: pair.key }]);
  server.bindAsync(`127.0.0.1:${String(port)}`, credentials, (error) => {
    if (error) throw error;
    listening();
  });
}

/** Just enough of gRPC's framing (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md) for the load client. */
function serveByHttp2(listening: () => void): void {
  const server = createSecureServer({ ...pair, settings: { maxConcurrentStreams: 20_000 } });
  server.on('stream', (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
    stream.on('error', () => undefined);
    open(stream, (message) => {
      const frame = Buffer.allocUnsafe(5 + message.length);
      frame[0] = 0;
      frame.writeUInt32BE(message.length, 1);
      message.copy(frame, 5);
      stream.write(frame);
    });
  });
  server.listen(port, '127.0.0.1', listening);
}

const serve = values.library === 'http2' ? serveByHttp2 : serveByGrpc;
serve(() => {
  createServer((_request, response) => {
    body = nextBody();
    for (const send of streams) send();
    response.end();
  }).listen(port + 1, '127.0.0.1', () => {
    console.log('ready');
  });
});
process.on('SIGTERM', () => process.exit(0));
