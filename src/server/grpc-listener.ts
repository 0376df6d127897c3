import { Server, ServerCredentials } from '@grpc/grpc-js';
import { abortable, deadlineSignal } from '../base/deadline.ts';
import type { Log } from '../base/log.ts';
import { defaultGrpcLimits, serverOptions, shutDown } from '../api/grpc-server.ts';
import type { GrpcLimits } from '../api/grpc-server.ts';
import { openTlsAcceptor } from './tls-acceptor.ts';
import type { TlsMaterial } from './tls-acceptor.ts';

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
