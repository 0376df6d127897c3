/**
 * A swarm of state-of-the-world SDS streams that acknowledge everything, in a process of its own. It opens them all,
 * then at each line on stdin waits until the last stream has a changed secret. Prints one JSON object a step.
 */
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { z } from 'zod';
import { protoRoot } from '../../src/base/proto-files.ts';
import { percentile, processUsage } from './process-usage.ts';

const { values } = parseArgs({
  options: {
    address: { type: 'string', default: '' },
    ca: { type: 'string', default: '' },
    tokens: { type: 'string', default: '' },
    streams: { type: 'string', default: '1000' },
    connections: { type: 'string', default: '10' },
    pid: { type: 'string', default: '' },
  },
});

const secretType = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret';
const responseShape = z.object({ versionInfo: z.string(), nonce: z.string() });
const definition = loadSync('envoy/service/secret/v3/sds.proto', { includeDirs: [protoRoot] })[
  'envoy.service.secret.v3.SecretDiscoveryService'
];
const method = z.custom<grpc.ServiceDefinition>((value) => typeof value === 'object').parse(definition)['StreamSecrets'];
if (!method) throw new Error('the proto has no StreamSecrets');
const { path, requestSerialize, responseDeserialize } = method;

const tokens = readFileSync(values.tokens, 'utf8').trim().split('\n');
const pid = Number(values.pid);
const streams = Number(values.streams);
const credentials = grpc.credentials.createSsl(readFileSync(values.ca));
const clients = Array.from(
  { length: Number(values.connections) },
  () => new grpc.Client(values.address, credentials, { 'grpc.use_local_subchannel_pool': 1 }),
);

const before = processUsage(pid);
await Promise.all(
  clients.map(
    (client) =>
      new Promise<void>((resolve, reject) => {
        client.waitForReady(Date.now() + 60_000, (error) => {
          if (error) reject(error);
          else resolve();
        });
      }),
  ),
);

const firstResponses: number[] = [];
let failed = 0;
let firstFailure = '';
let stopping = false;
let reached = 0;
let onReached: (() => void) | undefined;
const calls: grpc.ClientDuplexStream<unknown, unknown>[] = [];

function openStream(i: number): Promise<void> {
  const client = clients[i % clients.length];
  if (!client) return Promise.resolve();
  const metadata = new grpc.Metadata();
  metadata.set('authorization', `Bearer ${tokens[i % tokens.length] ?? ''}`);
  const opened = performance.now();
  const call = client.makeBidiStreamRequest<unknown, unknown>(path, requestSerialize, responseDeserialize, metadata);
  calls.push(call);
  return new Promise((resolve) => {
    let version: string | undefined;
    call.on('data', (message: unknown) => {
      const { versionInfo, nonce } = responseShape.parse(message);
      call.write({ typeUrl: secretType, resourceNames: ['ROOTCA'], versionInfo, responseNonce: nonce });
      if (version === undefined) {
        firstResponses.push(performance.now() - opened);
        resolve();
      } else if (version !== versionInfo && ++reached === streams) onReached?.();
      version = versionInfo;
    });
    call.on('error', (error) => {
      if (stopping) return;
      failed++;
      firstFailure ||= error.message;
      resolve();
    });
    call.write({ typeUrl: secretType, resourceNames: ['ROOTCA'], node: { id: `sidecar-${String(i)}` } });
  });
}

const start = performance.now();
let opened = 0;
await Promise.all(
  Array.from({ length: 64 }, async () => {
    while (opened < streams) await openStream(opened++);
  }),
);
const openMs = performance.now() - start;
await new Promise((resolve) => setTimeout(resolve, 2000));
const sorted = Float64Array.from(firstResponses).sort();
console.log(
  JSON.stringify({
    streams: firstResponses.length,
    failed,
    firstFailure,
    openMs,
    firstResponseP50Ms: percentile(sorted, 0.5),
    firstResponseP99Ms: percentile(sorted, 0.99),
    residentKiBPerStream: (processUsage(pid).residentKiB - before.residentKiB) / streams,
  }),
);

for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'stop') break;
  // A line arms the next round; the change itself is made by whoever wrote it, after our answer.
  const cpuBefore = processUsage(pid).cpuMs;
  reached = 0;
  const all = new Promise<void>((resolve) => {
    onReached = resolve;
  });
  const armed = performance.now();
  console.log(JSON.stringify({ armed: true }));
  await all;
  console.log(JSON.stringify({ lastMs: performance.now() - armed, serverCpuMs: processUsage(pid).cpuMs - cpuBefore, failed }));
}
stopping = true;
for (const call of calls) call.cancel();
for (const client of clients) client.close();
