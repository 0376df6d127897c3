import { request as httpRequest } from 'node:http';
import { type ClientHttp2Session, connect as http2Connect } from 'node:http2';
import { connect, createSecureContext, type PeerCertificate, type SecureContext, type TLSSocket } from 'node:tls';
import { normalSerial } from './envoy.ts';
import type { Credential } from './workload-client.ts';

export type HttpVersion = 'h1' | 'h2';

export interface MtlsTarget {
  readonly port: number;
  /** The SPIFFE ID that must answer. */
  readonly peer: string;
  readonly http: HttpVersion;
}

/** What a client shows and trusts, with the TLS context made once. */
export interface TlsIdentity {
  readonly context: SecureContext;
}

export function tlsIdentity(credential: Pick<Credential, 'certificate' | 'key'> | undefined, anchors: string): TlsIdentity {
  return { context: createSecureContext({ ca: anchors, ...(credential ? { cert: credential.certificate, key: credential.key } : {}) }) };
}

export interface Connection {
  readonly socket: TLSSocket;
  /** Serial of the leaf that the server showed. */
  readonly serial: string;
}

/**
 * A new TCP and TLS connection with a full handshake: no session is ever offered. Rejects on any error, and unless the
 * server is the expected peer and agreed on the protocol.
 */
export async function openConnection(target: MtlsTarget, identity: TlsIdentity, signal: AbortSignal): Promise<Connection> {
  const protocol = target.http === 'h2' ? 'h2' : 'http/1.1';
  const socket = connect({
    host: '127.0.0.1',
    port: target.port,
    secureContext: identity.context,
    ALPNProtocols: [protocol],
    // A SPIFFE certificate names no host: the identity in it is what is checked.
    checkServerIdentity: (_host, certificate) =>
      hasUri(certificate, target.peer) ? undefined : new Error(`the peer is ${String(certificate.subjectaltname)}`),
  });
  const abort = (): void => {
    socket.destroy(new Error('deadline'));
  };
  signal.addEventListener('abort', abort, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve);
      socket.once('error', reject);
      socket.once('close', () => {
        reject(new Error('closed before the handshake was done'));
      });
    });
    if (socket.isSessionReused()) throw new Error('the session was resumed');
    if (socket.alpnProtocol !== protocol) throw new Error(`the server chose ${String(socket.alpnProtocol)}`);
    return { socket, serial: normalSerial(socket.getPeerCertificate().serialNumber) };
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
    // Late errors of a socket that is done with are nobody's.
    socket.on('error', () => undefined);
  }
}

function hasUri(certificate: PeerCertificate, uri: string): boolean {
  return (certificate.subjectaltname ?? '').split(', ').includes(`URI:${uri}`);
}

/** One request on a connection; resolves with the status once the whole answer is there. */
export async function exchange(connection: Connection, http: HttpVersion, signal: AbortSignal): Promise<number> {
  return http === 'h2' ? exchangeHttp2(connection.socket, signal) : exchangeHttp1(connection.socket, signal, 'close');
}

export async function exchangeHttp1(socket: TLSSocket, signal: AbortSignal, connection: 'close' | 'keep-alive'): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ createConnection: () => socket, host: 'app', path: '/', headers: { connection }, signal });
    request.once('error', reject);
    request.once('response', (response) => {
      response.once('error', reject);
      response.once('close', () => {
        if (!response.complete) reject(new Error('the answer was cut short'));
      });
      response.resume().once('end', () => {
        resolve(response.statusCode ?? 0);
      });
    });
    request.end();
  });
}

async function exchangeHttp2(socket: TLSSocket, signal: AbortSignal): Promise<number> {
  const session = http2Session(socket);
  try {
    return await sessionRequest(session, signal);
  } finally {
    session.destroy();
  }
}

export function http2Session(socket: TLSSocket): ClientHttp2Session {
  const session = http2Connect('https://app', { createConnection: () => socket });
  // What ends the session ends its streams, and they say so.
  session.on('error', () => undefined);
  return session;
}

export async function sessionRequest(session: ClientHttp2Session, signal: AbortSignal): Promise<number> {
  return new Promise<number>((resolve, reject) => {
    const stream = session.request({ ':path': '/' }, { signal });
    let status = 0;
    stream.once('error', reject);
    stream.once('close', () => {
      reject(new Error('the stream was closed without an answer'));
    });
    stream.once('response', (headers) => {
      status = headers[':status'] ?? 0;
    });
    stream.resume().once('end', () => {
      resolve(status);
    });
    stream.end();
  });
}

/** One request on a connection of its own, within 2 s; throws unless it was answered 200. */
export async function requestOnce(target: MtlsTarget, identity: TlsIdentity, deadlineMs = 2000): Promise<string> {
  const signal = AbortSignal.timeout(deadlineMs);
  const connection = await openConnection(target, identity, signal);
  try {
    const status = await exchange(connection, target.http, signal);
    if (status !== 200) throw new Error(`status ${String(status)}`);
    return connection.serial;
  } finally {
    connection.socket.destroy();
  }
}
