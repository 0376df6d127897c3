import { Agent } from 'node:https';
import { connect } from 'node:tls';
import type { ConnectionOptions, DetailedPeerCertificate, PeerCertificate, Server, TLSSocket, TlsOptions } from 'node:tls';
import { SignetError } from '../base/errors.ts';
import type { Authorize } from './authorize.ts';
import { verifyClient, verifyServer } from './peer.ts';
import { clientContext, serverContext } from './secure-context.ts';
import { trustDomainName } from './x509-context.ts';
import type { X509Source } from './x509-source.ts';

/**
 * What a TLS, HTTPS or HTTP/2 server is made with. It has no certificate yet: until `secureServer` gives it one, every
 * handshake fails.
 */
export const mutualTls: Readonly<TlsOptions> = { requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.2' };

export interface ServerSecurity {
  /** Which clients are let in. */
  readonly authorize: Authorize;
  /** The one trust domain (`spiffe://td`) that clients are of; our own unless given. */
  readonly trustDomain?: string;
  /** Told why a connection was refused. */
  readonly onRefused?: (error: Error, socket: TLSSocket) => void;
}

const peers = new WeakMap<object, string>();

/** The SPIFFE ID of the client at the other end of a socket that `secureServer` let in. */
export function peerIdOf(socket: object): string | undefined {
  return peers.get(socket);
}

/**
 * Gives a server made with `mutualTls` the source's identity, at once and after each update, and ends every connection
 * whose client isn't let in before anything is read from it. Throws CONFIG_INVALID if there is no bundle of the trust domain.
 */
export function secureServer(server: Server, source: X509Source, security: ServerSecurity): void {
  const trustDomain = security.trustDomain ?? trustDomainName(source.svid.spiffeId);
  const refresh = (): void => {
    server.setSecureContext(serverContext(source.context, trustDomain));
  };
  const refreshOrStay = (): void => {
    try {
      refresh();
    } catch (error) {
      // The trust domain was taken out of what we trust: nobody of it gets in any more.
      server.setSecureContext({});
      source.emit('warning', SignetError.from(error));
    }
  };
  refresh();
  source.on('update', refreshOrStay);
  server.once('close', () => {
    source.off('update', refreshOrStay);
  });
  server.prependListener('secureConnection', (socket: TLSSocket) => {
    try {
      // A server made without mutualTls asks for no certificate.
      if (!socket.authorized) throw new SignetError('INVALID_ARGUMENT', 'the peer showed no certificate that TLS verified');
      peers.set(socket, verifyClient(socket.getPeerCertificate().raw, trustDomain, security.authorize, Date.now()));
    } catch (error) {
      socket.destroy();
      security.onRefused?.(SignetError.from(error), socket);
    }
  });
}

/**
 * What tls.connect is called with, for one connection: identities change. The server's certificate must be of its own trust
 * domain, and `authorize` must want its SPIFFE ID; what the host is called doesn't matter.
 */
export function clientOptions(source: X509Source, authorize: Authorize): ConnectionOptions {
  const { context } = source;
  return {
    ...clientContext(context),
    rejectUnauthorized: true,
    checkServerIdentity: serverCheck(() => context, authorize),
  };
}

/** For checkServerIdentity, which Node calls once its own verification has passed. */
export function serverCheck(context: () => X509Source['context'], authorize: Authorize) {
  return (_host: string, certificate: PeerCertificate): Error | undefined => {
    try {
      verifyServer(chainOf(certificate), context(), authorize, Date.now());
      return undefined;
    } catch (error) {
      return SignetError.from(error);
    }
  };
}

/** For node:https: every new connection has the identity of its time. */
export function httpsAgent(source: X509Source, authorize: Authorize): Agent {
  // No session is kept: a resumed one is not checked again.
  const agent = new Agent({ keepAlive: true, maxCachedSessions: 0 });
  agent.createConnection = (options) => connect({ ...(options as ConnectionOptions), ...clientOptions(source, authorize) });
  return agent;
}

/** Leaf first; a root is its own issuer. */
function chainOf(leaf: PeerCertificate): Buffer[] {
  const chain: Buffer[] = [];
  let next: Partial<DetailedPeerCertificate> | undefined = leaf;
  while (next?.raw && !chain.some((der) => next?.raw?.equals(der) === true)) {
    chain.push(next.raw);
    next = next.issuerCertificate;
  }
  return chain;
}
