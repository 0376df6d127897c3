import { connect, createServer, type TLSSocket } from 'node:tls';
import type { PemPair } from './openssl.ts';

/** A proxy that ends TLS, so that it sees all that client and server say to each other, and keeps it. */
export interface RecordingProxy extends AsyncDisposable {
  readonly port: number;
  /** What the server sent: the octets of each connection, and the payloads of each of its HTTP/2 streams put together. */
  fromServer(): readonly Buffer[];
  fromClient(): readonly Buffer[];
}

export async function startRecordingProxy(to: { readonly port: number; readonly ca: Buffer }, shown: PemPair): Promise<RecordingProxy> {
  const [server, client]: [Buffer[][], Buffer[][]] = [[], []];
  const sockets = new Set<TLSSocket>();
  const listener = createServer({ cert: shown.certificate, key: shown.key, ALPNProtocols: ['h2'] }, (near) => {
    const far = connect({ host: '127.0.0.1', port: to.port, ca: to.ca, ALPNProtocols: ['h2'] });
    const [sent, received]: [Buffer[], Buffer[]] = [[], []];
    server.push(sent);
    client.push(received);
    far.on('data', (chunk: Buffer) => sent.push(chunk));
    near.on('data', (chunk: Buffer) => received.push(chunk));
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one);
      one.pipe(other);
      one.on('error', () => undefined);
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
    }
  });
  listener.on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const address = listener.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const recorded = (connections: readonly Buffer[][]): Buffer[] =>
    connections.flatMap((chunks) => {
      const octets = Buffer.concat(chunks);
      return [octets, ...streamPayloads(octets)];
    });
  return {
    port: address.port,
    fromServer: () => recorded(server),
    fromClient: () => recorded(client),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => listener.close(resolve));
    },
  };
}

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** The DATA of each stream without the frames' headers between (RFC 9113 §4.1, §6.1), so that nothing hides across two frames. */
function streamPayloads(octets: Buffer): Buffer[] {
  const streams = new Map<number, Buffer[]>();
  let at = octets.subarray(0, preface.length).equals(preface) ? preface.length : 0;
  while (at + 9 <= octets.length) {
    const length = octets.readUIntBE(at, 3);
    const [type, flags, stream] = [octets.readUInt8(at + 3), octets.readUInt8(at + 4), octets.readUInt32BE(at + 5) & 0x7fffffff];
    if (type === 0) {
      const padded = (flags & 8) !== 0;
      const end = at + 9 + length - (padded ? octets.readUInt8(at + 9) : 0);
      const payloads = streams.get(stream) ?? [];
      payloads.push(octets.subarray(at + 9 + (padded ? 1 : 0), end));
      streams.set(stream, payloads);
    }
    at += 9 + length;
  }
  return [...streams.values()].map((payloads) => Buffer.concat(payloads));
}
