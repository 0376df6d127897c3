import type { AddressInfo } from 'node:net';
import { connect, createServer } from 'node:tls';
import type { ConnectionOptions, Server, TLSSocket } from 'node:tls';
import { mutualTls, peerIdOf, secureServer, X509Source } from '../../src/workload/index.ts';
import type { ServerSecurity } from '../../src/workload/index.ts';
import type { X509Svid } from '../../src/workload-api/workload-source.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { startWorkloadApi } from './workload-world.ts';
import type { TestTrustDomain, WorkloadWorld } from './workload-world.ts';

/** A workload with its own Workload API and an open source. */
export interface TestWorkload extends AsyncDisposable {
  readonly world: WorkloadWorld;
  readonly source: X509Source;
  /** Resolves once the source has the new identity. */
  rotate(): Promise<void>;
}

export async function testWorkload(
  trustDomain: TestTrustDomain,
  path: string,
  federated: readonly TestTrustDomain[] = [],
): Promise<TestWorkload> {
  const world = await startWorkloadApi({ trustDomain, identities: { [path]: '' }, federated });
  const source = await X509Source.open({ socketPath: world.socket });
  return {
    world,
    source,
    async rotate() {
      const updated = new Promise<void>((resolve) => {
        source.once('update', () => {
          resolve();
        });
      });
      await world.rotate();
      await updated;
    },
    async [Symbol.asyncDispose]() {
      source.close();
      await world[Symbol.asyncDispose]();
    },
  };
}

export interface TlsPeer extends AsyncDisposable {
  readonly port: number;
  readonly server: Server;
  /** Why connections were refused. */
  readonly refused: Error[];
}

/** A TLS server that tells each client who it is, and says nothing to one that isn't let in. */
export async function tlsServer(source: X509Source, security: ServerSecurity, options = mutualTls): Promise<TlsPeer> {
  const refused: Error[] = [];
  const server = createServer(options, (socket) => {
    socket.on('error', () => undefined);
    socket.end(peerIdOf(socket) ?? 'nobody');
  });
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  secureServer(server, source, { ...security, onRefused: (error) => refused.push(error) });
  return { ...(await listening(server)), refused };
}

export async function listening(server: Server): Promise<{ port: number; server: Server } & AsyncDisposable> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    server,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
      }),
  };
}

/** What the server said, and the serial number that it showed. Rejects if either side refused, or said nothing. */
export async function ask(port: number, options: ConnectionOptions): Promise<{ readonly said: string; readonly serial: string }> {
  const socket: TLSSocket = connect({ host: '127.0.0.1', port, ...options });
  socket.setTimeout(5000, () => socket.destroy(new Error('nothing came')));
  return new Promise((resolve, reject) => {
    let said = '';
    let serial = '';
    socket.once('secureConnect', () => {
      serial = parseCertificate(socket.getPeerCertificate().raw).serial;
    });
    socket.setEncoding('utf8').on('data', (chunk: string) => (said += chunk));
    socket.once('error', reject);
    socket.once('close', () => {
      if (said === '') reject(new Error('closed without a word'));
      else resolve({ said, serial });
    });
  });
}

/** TLS options of somebody who holds this certificate and key, and trusts whoever these roots vouch for. */
export function bareOptions(
  svid: X509Svid,
  roots: readonly Buffer[],
): { cert: string; key: string; ca: string; checkServerIdentity: () => undefined } {
  const pem = (certificates: readonly Buffer[]): string => certificates.map((der) => pemEncode('CERTIFICATE', der)).join('');
  return {
    cert: pem(svid.chain),
    key: pemEncode('PRIVATE KEY', svid.keyPkcs8),
    ca: pem(roots),
    checkServerIdentity: () => undefined,
  };
}
