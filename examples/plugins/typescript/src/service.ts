import { loadPackageDefinition, Metadata, Server, status } from '@grpc/grpc-js';
import type { sendUnaryData, ServerUnaryCall, ServerWritableStream, ServiceDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { fileURLToPath } from 'node:url';
import { openCa } from './ca.ts';
import type { Ca } from './ca.ts';

const revision = 1;
const proto = fileURLToPath(new URL('../proto/plugin.proto', import.meta.url));

export interface ServiceOptions {
  /** Where the CA's key is. */
  readonly folder: string;
  /** More are sent away for a while; 0 for no bound. */
  readonly mostPerSecond: number;
}

/** A failure as Signet reads it: docs/reference/plugin-protocol.md lists which status means what. */
class Refusal extends Error {
  readonly code: status;
  readonly retryAfterMs: number | undefined;

  constructor(code: status, message: string, retryAfterMs?: number) {
    super(message);
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** signet.plugin.v1.Authority in front of a Ca. */
export function createService({ folder, mostPerSecond }: ServiceOptions): { readonly server: Server; close(): Promise<void> } {
  let served: { readonly trustDomain: string; readonly ca: Ca } | undefined;
  const watchers = new Set<ServerWritableStream<unknown, unknown>>();
  let second = 0;
  let signedInIt = 0;

  function opened(): { readonly trustDomain: string; readonly ca: Ca } {
    if (!served) throw new Refusal(status.FAILED_PRECONDITION, 'Handshake comes first');
    return served;
  }

  function handshake({ trustDomain }: { readonly trustDomain: string }) {
    if (served?.trustDomain !== trustDomain) {
      try {
        served = { trustDomain, ca: openCa(folder, trustDomain) };
      } catch (error) {
        throw new Refusal(status.FAILED_PRECONDITION, String(error));
      }
    }
    return {
      revision,
      pluginName: 'example',
      pluginVersion: '0.1.0',
      capabilities: { exactLife: true, signIntermediate: false },
    };
  }

  async function sign(request: SignRequest) {
    const { trustDomain, ca } = opened();
    const now = Math.floor(Date.now() / 1000);
    if (now !== second) [second, signedInIt] = [now, 0];
    if (mostPerSecond > 0 && ++signedInIt > mostPerSecond)
      throw new Refusal(status.RESOURCE_EXHAUSTED, `more than ${String(mostPerSecond)} certificates a second`, 1000);
    // Signet has decided that this workload may have this name. A CA with an opinion of its own gives it here.
    if (!request.spiffeId.startsWith(`spiffe://${trustDomain}/`))
      throw new Refusal(status.PERMISSION_DENIED, `${request.spiffeId} is not in ${trustDomain}`);
    const chain = await ca.sign({
      publicKey: request.publicKey,
      spiffeId: request.spiffeId,
      notBefore: request.notBefore * 1000,
      notAfter: request.notAfter * 1000,
    });
    return { chain };
  }

  function watchTrust(stream: ServerWritableStream<unknown, unknown>): void {
    try {
      const { ca } = opened();
      // This CA never changes while it runs. Write again, all of it, when yours does.
      stream.write({ anchors: ca.anchors, issuersEnd: Math.floor(ca.ends / 1000) });
      watchers.add(stream);
      stream.on('cancelled', () => watchers.delete(stream));
    } catch (error) {
      stream.emit('error', statusOf(error));
    }
  }

  function health() {
    const { ca } = opened();
    return { canSign: Date.now() < ca.ends, detail: `the root ends at ${new Date(ca.ends).toISOString()}` };
  }

  const server = new Server();
  server.addService(definition(), {
    handshake: unary(handshake),
    sign: unary(sign),
    signIntermediate: unary(() => {
      throw new Refusal(status.UNIMPLEMENTED, 'this CA signs leaves alone');
    }),
    health: unary(health),
    watchTrust,
  });
  return {
    server,
    async close() {
      for (const stream of watchers) stream.end();
      await new Promise<void>((resolve) => {
        server.tryShutdown(() => {
          resolve();
        });
        setTimeout(() => {
          server.forceShutdown();
          resolve();
        }, 2000).unref();
      });
    },
  };
}

/** Times in seconds. */
interface SignRequest {
  readonly spiffeId: string;
  readonly publicKey: Buffer;
  readonly notBefore: number;
  readonly notAfter: number;
}

function unary<Request, Response>(handle: (request: Request) => Response | Promise<Response>) {
  return (call: ServerUnaryCall<Request, Response>, done: sendUnaryData<Response>): void => {
    // In a microtask, so that what is thrown at once is caught as well.
    Promise.resolve()
      .then(() => handle(call.request))
      .then(
        (response) => {
          done(null, response);
        },
        (error: unknown) => {
          done(statusOf(error));
        },
      );
  };
}

function statusOf(error: unknown): { code: status; details: string; metadata: Metadata } {
  const metadata = new Metadata();
  if (error instanceof Refusal) {
    if (error.retryAfterMs !== undefined) metadata.set('grpc-retry-pushback-ms', String(error.retryAfterMs));
    return { code: error.code, details: error.message, metadata };
  }
  console.error(error);
  return { code: status.INTERNAL, details: 'a fault of this plugin: its log has more', metadata };
}

function definition(): ServiceDefinition {
  const root = loadPackageDefinition(loadSync(proto, { longs: Number, defaults: true }));
  const { signet } = root as unknown as { signet: { plugin: { v1: { Authority: { service: ServiceDefinition } } } } };
  return signet.plugin.v1.Authority.service;
}
