/**
 * A closed loop of workers on Istio's CreateCertificate, in a process of its own. Prints one JSON object.
 * Each request is the next token and the next request of the lists, so that a list longer than the run is never repeated.
 */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { z } from 'zod';
import { protoRoot } from '../../src/base/proto-files.ts';
import { machineBusyMs, percentile, processUsage } from './process-usage.ts';

export interface CsrLoadResult {
  readonly requests: number;
  readonly errors: number;
  readonly firstError: string;
  readonly requestsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly serverCpuMicrosPerRequest: number;
  readonly serverResidentMiB: number;
  readonly otherLoadCores: number;
}

const { values } = parseArgs({
  options: {
    address: { type: 'string', default: '' },
    ca: { type: 'string', default: '' },
    tokens: { type: 'string', default: '' },
    csrs: { type: 'string', default: '' },
    concurrency: { type: 'string', default: '16' },
    seconds: { type: 'string', default: '5' },
    pid: { type: 'string', default: '' },
  },
});

const responseShape = z.object({ certChain: z.array(z.string()).min(2) });

const service = grpc.loadPackageDefinition(loadSync('istio/v1/auth/ca.proto', { includeDirs: [protoRoot], longs: Number }));
const definition = z
  .custom<{ service: grpc.ServiceDefinition }>()
  .parse(
    z.object({ istio: z.object({ v1: z.object({ auth: z.object({ IstioCertificateService: z.any() }) }) }) }).parse(service).istio.v1.auth
      .IstioCertificateService,
  ).service;
const method = definition['CreateCertificate'];
if (!method) throw new Error('the proto has no CreateCertificate');

const tokens = readFileSync(values.tokens, 'utf8').trim().split('\n');
const csrs = z.array(z.string()).parse(JSON.parse(readFileSync(values.csrs, 'utf8')));
const pid = Number(values.pid);
const concurrency = Number(values.concurrency);
const credentials = grpc.credentials.createSsl(readFileSync(values.ca));
const clients = Array.from(
  { length: Math.ceil(concurrency / 16) },
  () => new grpc.Client(values.address, credentials, { 'grpc.use_local_subchannel_pool': 1 }),
);

let next = 0;
let errors = 0;
let firstError = '';

function request(client: grpc.Client, check: boolean): Promise<void> {
  const i = next++;
  const metadata = new grpc.Metadata();
  metadata.set('authorization', `Bearer ${tokens[i % tokens.length] ?? ''}`);
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      method?.path ?? '',
      method?.requestSerialize ?? ((value: unknown) => Buffer.from(String(value))),
      method?.responseDeserialize ?? ((bytes: Buffer): unknown => bytes),
      { csr: csrs[i % csrs.length], validityDuration: 86_400 },
      metadata,
      { deadline: Date.now() + 30_000 },
      (error: grpc.ServiceError | null, response: unknown) => {
        if (error) {
          errors++;
          firstError ||= `${String(error.code)}: ${error.details}`;
        } else if (check) {
          const { certChain } = responseShape.parse(response);
          const certificates = certChain.map((pem) => new X509Certificate(pem));
          for (let k = 0; k + 1 < certificates.length; k++) {
            const issuer = certificates[k + 1];
            if (!issuer || certificates[k]?.verify(issuer.publicKey) !== true) throw new Error('the chain does not verify');
          }
        }
        resolve();
      },
    );
  });
}

async function run(milliseconds: number, latencies?: number[]): Promise<number> {
  const start = performance.now();
  let done = 0;
  await Promise.all(
    Array.from({ length: concurrency }, async (_, worker) => {
      const client = clients[worker % clients.length];
      if (!client) return;
      for (let k = 0; performance.now() - start < milliseconds; k++) {
        const before = performance.now();
        await request(client, !latencies && k % 50 === 0);
        latencies?.push(performance.now() - before);
        done++;
      }
    }),
  );
  return done;
}

await run(2_000);
errors = 0;
const latencies: number[] = [];
const before = { server: processUsage(pid), self: processUsage(process.pid), machine: machineBusyMs(), at: performance.now() };
const requests = await run(Number(values.seconds) * 1000, latencies);
const elapsedMs = performance.now() - before.at;
const server = processUsage(pid);
const self = processUsage(process.pid);
const serverCpuMs = server.cpuMs - before.server.cpuMs;
const sorted = Float64Array.from(latencies).sort();
const result: CsrLoadResult = {
  requests,
  errors,
  firstError,
  requestsPerSecond: (requests / elapsedMs) * 1000,
  p50Ms: percentile(sorted, 0.5),
  p99Ms: percentile(sorted, 0.99),
  serverCpuMicrosPerRequest: (serverCpuMs / requests) * 1000,
  serverResidentMiB: server.residentKiB / 1024,
  otherLoadCores: (machineBusyMs() - before.machine - serverCpuMs - (self.cpuMs - before.self.cpuMs)) / elapsedMs,
};
console.log(JSON.stringify(result));
for (const client of clients) client.close();
