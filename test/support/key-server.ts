import { createServer as createHttpServer } from 'node:http';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { createServerCertificate } from '../../src/x509/server-certificate.ts';
import { generateKeyPair, privateKeyPem } from '../../src/x509/keys.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { testCa } from './forge.ts';

export type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** A server on loopback that publishes an issuer's keys, and does worse things when told to. */
export interface KeyServer extends AsyncDisposable {
  readonly url: string;
  /** The PEM of the CA that its certificate is from; empty over http. */
  readonly caPem: string;
  /** What came in, newest last. */
  readonly requests: { readonly path: string; readonly authorization: string | undefined }[];
  /** By path; anything else is 404. */
  readonly answers: Map<string, Answer>;
}

export function json(value: unknown): Answer {
  return (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
  };
}

export async function keyServer(options: { readonly tls?: boolean } = {}): Promise<KeyServer> {
  const requests: KeyServer['requests'] = [];
  const answers = new Map<string, Answer>();
  const listener: RequestListener = (request, response) => {
    const path = request.url ?? '/';
    requests.push({ path, authorization: request.headers.authorization });
    const answer = answers.get(path);
    if (answer) answer(request, response);
    else response.writeHead(404).end();
  };
  let caPem = '';
  let server: ReturnType<typeof createHttpServer>;
  if (options.tls) {
    const ca = await testCa('Key server', Date.now());
    const key = generateKeyPair();
    const der = await createServerCertificate({
      ca: ca.rootCa,
      spki: key.spki,
      dnsNames: ['localhost'],
      ipAddresses: ['127.0.0.1'],
      uris: [],
      notBefore: Date.now() - 60_000,
      notAfter: Date.now() + 3_600_000,
    });
    caPem = pemEncode('CERTIFICATE', ca.root);
    server = createHttpsServer({ key: privateKeyPem(key.privateKey), cert: pemEncode('CERTIFICATE', der) }, listener);
  } else {
    server = createHttpServer(listener);
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `${options.tls ? 'https' : 'http'}://127.0.0.1:${String(port)}`,
    caPem,
    requests,
    answers,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => {
        server.close(() => {
          resolve();
        });
      });
    },
  };
}
