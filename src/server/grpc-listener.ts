import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { ServerOptions } from '@grpc/grpc-js';
import { abortable, deadlineSignal } from '../base/deadline.ts';
import type { Log } from '../base/log.ts';
import { openTlsAcceptor } from './tls-acceptor.ts';
import type { TlsMaterial } from './tls-acceptor.ts';

export interface GrpcLimits {
  readonly streamsPerConnection: number;
  readonly maxConnectionAgeMs: number;
  /** From a connection's "go away" to its end. Longer than any stream lives, so that none is ever reset by it. */
  readonly connectionGraceMs: number;
  /** How long a connection without any call is kept. */
  readonly connectionIdleMs: number;
  readonly maxConnections: number;
  /** Envoy's node alone can be 61 KB; a CSR is at most 16. */
  readonly maxMessageBytes: number;
  readonly keepaliveMs: number;
  readonly keepaliveTimeoutMs: number;
  readonly handshakeTimeoutMs: number;
}

export const defaultGrpcLimits: GrpcLimits = {
  streamsPerConnection: 1000,
  maxConnectionAgeMs: 3_600_000,
  connectionGraceMs: 3_600_000,
  connectionIdleMs: 300_000,
  maxConnections: 20_000,
  maxMessageBytes: 256 * 1024,
  keepaliveMs: 60_000,
  keepaliveTimeoutMs: 20_000,
  handshakeTimeoutMs: 10_000,
};

/** The grace that goes with a greatest age of streams: they end by themselves before it is over. */
export function connectionGraceFor(maxStreamAgeMs: number): number {
  return Math.ceil(maxStreamAgeMs * 1.1) + 60_000;
}

export interface GrpcListener {
  /** HOST:PORT as bound, so with the real port where 0 was asked for. */
  readonly address: string;
  /** For handshakes from now on; connections that are open keep what they have. Throws on unusable material. */
  setMaterial(material: TlsMaterial): void;
  /** No new connections, a "go away" on each open one, and the end when their calls have ended, by force after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

export interface GrpcListenerOptions {
  readonly host: string;
  readonly port: number;
  readonly material: TlsMaterial;
  readonly register: (server: Server) => void;
  readonly log: Log;
  readonly limits?: Partial<GrpcLimits>;
}

/** gRPC over TLS for the world. Throws CONFIG_INVALID if the address can't be had. */
export async function openGrpcListener(options: GrpcListenerOptions): Promise<GrpcListener> {
  const limits: GrpcLimits = { ...defaultGrpcLimits, ...options.limits };
  const server = new Server(serverOptions(limits));
  options.register(server);
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const acceptor = await openTlsAcceptor({
    host: options.host,
    port: options.port,
    material: options.material,
    handshakeTimeoutMs: limits.handshakeTimeoutMs,
    maxConnections: limits.maxConnections,
    log: options.log,
    onConnection: (socket) => {
      injector.injectConnection(socket);
    },
  });
  const host = options.host.includes(':') ? `[${options.host}]` : options.host;
  return {
    address: `${host}:${String(acceptor.port)}`,
    setMaterial: acceptor.setMaterial,
    async close(graceMs) {
      acceptor.stopAccepting();
      const grace = deadlineSignal(graceMs);
      await shutDown(server, graceMs);
      // grpc-js (1.14.7) calls back at once: closing its HTTP/2 server marks the sessions closed, and it takes that for
      // the end. Connections cut now would take the last frames of their streams with them, "OK" and all.
      await abortable(acceptor.idle(), grace).catch(() => undefined);
      // A session that was told to close waits for its client's end of the connection, also when it is destroyed.
      acceptor.destroyConnections();
    },
  };
}

/** Shared with the admin listener, whose connections are as good as the folder that they come through. */
export function serverOptions(limits: GrpcLimits): ServerOptions {
  return {
    'grpc.max_concurrent_streams': limits.streamsPerConnection,
    // grpc-js spreads it by ± 10 % itself.
    'grpc.max_connection_age_ms': limits.maxConnectionAgeMs,
    'grpc.max_connection_age_grace_ms': limits.connectionGraceMs,
    // A connection without a call is no caller: nobody holds the places of others by being silent.
    'grpc.max_connection_idle_ms': limits.connectionIdleMs,
    'grpc.max_receive_message_length': limits.maxMessageBytes,
    'grpc.keepalive_time_ms': limits.keepaliveMs,
    'grpc.keepalive_timeout_ms': limits.keepaliveTimeoutMs,
    // Its counters cost some of each call, and nothing of ours reads them.
    'grpc.enable_channelz': 0,
  };
}

/** GOAWAY and the end of what is under way; by force once the grace is over. */
export async function shutDown(server: Server, graceMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const graceful = new Promise<void>((resolve) => {
    server.tryShutdown(() => {
      resolve();
    });
  });
  const forced = new Promise<void>((resolve) => {
    timer = setTimeout(() => {
      server.forceShutdown();
      resolve();
    }, graceMs);
  });
  await Promise.race([graceful, forced]);
  clearTimeout(timer);
}
