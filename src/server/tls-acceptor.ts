import { constants } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:tls';
import type { Server, TLSSocket, TlsOptions } from 'node:tls';
import type { Log } from '../base/log.ts';
import { cipherSuites } from './cipher-suites.ts';
import { listenError } from '../base/listen-error.ts';

/** What a TLS server shows and what it verifies client certificates by; both are swapped without a restart. */
export interface TlsMaterial {
  /** The serving chain, leaf first. */
  readonly certificatePem: string;
  readonly keyPem: string;
  /** The workload trust bundle, and the external CAs that some callers are of. */
  readonly clientAnchorsPem: string;
}

export interface TlsAcceptor {
  readonly port: number;
  /** For handshakes from now on. Throws on unusable material, and the old one stays. */
  setMaterial(material: TlsMaterial): void;
  /** No new connections; those that are open go on. */
  stopAccepting(): void;
  /** Resolves once no connection is open. */
  idle(): Promise<void>;
  /** Ends every connection now, whatever goes on in it. */
  destroyConnections(): void;
}

export interface TlsAcceptorOptions {
  readonly host: string;
  readonly port: number;
  readonly material: TlsMaterial;
  /** How long a client may take for its handshake. */
  readonly handshakeTimeoutMs: number;
  readonly maxConnections: number;
  readonly log: Log;
  /** A connection whose handshake is done, and that speaks HTTP/2. */
  readonly onConnection: (socket: TLSSocket) => void;
}

const backlog = 1024;

/**
 * Our own TLS server, whose connections are handed to grpc-js, rather than grpc-js's: that one replaces the context with
 * {ca, cert, key} alone at each swap, and so loses the cipher suites that it was made with; and it leaves resumption on.
 */
export async function openTlsAcceptor(options: TlsAcceptorOptions): Promise<TlsAcceptor> {
  const { log } = options;
  const open = new Set<TLSSocket>();
  let onIdle: (() => void) | undefined;
  const server = createServer({
    ...contextOf(options.material),
    ALPNProtocols: ['h2'],
    // Optional: most callers have a token. An unverifiable certificate counts as none (`authorized` is false).
    requestCert: true,
    rejectUnauthorized: false,
    handshakeTimeout: options.handshakeTimeoutMs,
  });
  server.maxConnections = options.maxConnections;
  server.on('tlsClientError', (error, socket) => {
    // Anybody can cause these: not worth more than debug.
    log.debug({ peer: socket.remoteAddress, err: error }, 'TLS handshake failed');
    socket.destroy();
  });
  server.on('secureConnection', (socket) => {
    socket.on('error', (error: Error) => {
      log.debug({ err: error }, 'TLS connection failed');
    });
    if (socket.alpnProtocol !== 'h2') {
      socket.destroy();
      return;
    }
    open.add(socket);
    socket.once('close', () => {
      open.delete(socket);
      if (open.size === 0) onIdle?.();
    });
    rememberPeer(socket);
    options.onConnection(socket);
  });
  await listening(server, options.host, options.port);
  server.on('error', (error: Error) => {
    log.error({ err: error }, 'the gRPC listener failed');
  });
  return {
    port: (server.address() as AddressInfo).port,
    setMaterial(material) {
      server.setSecureContext(contextOf(material));
    },
    stopAccepting() {
      server.close();
    },
    async idle() {
      if (open.size === 0) return;
      await new Promise<void>((resolve) => {
        onIdle = resolve;
      });
    },
    destroyConnections() {
      for (const socket of open) socket.destroy();
    },
  };
}

/** Everything that the context has: setSecureContext keeps nothing of what was there before. */
function contextOf(material: TlsMaterial): TlsOptions {
  return {
    cert: material.certificatePem,
    key: material.keyPem,
    ca: material.clientAnchorsPem,
    ciphers: cipherSuites,
    minVersion: 'TLSv1.2',
    honorCipherOrder: true,
    // No resumption: a resumed session brings a client certificate along that nobody verifies again, under roots that may
    // be gone. Connections live for an hour; a full handshake at each start is cheap.
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_NO_COMPRESSION,
  };
}

/**
 * grpc-js asks the socket for its certificate at every call; it is decoded once. Node shows a server the leaf alone, also
 * where the whole chain is asked for (24.21), so there is no more to keep.
 */
function rememberPeer(socket: TLSSocket): void {
  const peer = socket.authorized ? { raw: socket.getPeerCertificate().raw } : {};
  Object.defineProperty(socket, 'getPeerCertificate', { value: () => peer });
}

function listening(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error): void => {
      reject(listenError('listen.grpc', `${host}:${String(port)}`, error));
    };
    server.once('error', onError);
    server.listen({ host, port, backlog }, () => {
      server.off('error', onError);
      resolve();
    });
  });
}
