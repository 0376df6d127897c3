import type { Server, ServerOptions } from '@grpc/grpc-js';

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

/** Of every gRPC server: the one for the world, and those on unix sockets, whose connections are as good as the folder that they come through. */
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
