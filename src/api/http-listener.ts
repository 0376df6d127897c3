import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Log } from '../base/log.ts';
import { listenError } from '../base/listen-error.ts';

export interface HttpListener {
  /** HOST:PORT as bound. */
  readonly address: string;
  close(): Promise<void>;
}

export interface HttpListenerOptions {
  readonly host: string;
  readonly port: number;
  readonly log: Log;
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
  /** Ready means: can sign. `detail` says why not, or what is amiss all the same. */
  readonly readiness: () => { readonly ready: boolean; readonly detail: string };
  /** Public documents, by path. What can't be made now is a 503. */
  readonly pages?: ReadonlyMap<string, () => Promise<Page>>;
}

/** A document that anybody may read and keep for a while. */
export interface Page {
  readonly contentType: string;
  readonly text: string;
  readonly maxAgeSeconds: number;
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  readonly maxAgeSeconds?: number;
}

const plain = 'text/plain; charset=utf-8';
const requestTimeoutMs = 10_000;

/** /metrics, /healthz and /readyz for those who watch, and public documents. GET and HEAD only, no request body. Throws CONFIG_INVALID if the address can't be had. */
export async function openHttpListener(options: HttpListenerOptions): Promise<HttpListener> {
  const { log } = options;
  const server = createServer(
    {
      maxHeaderSize: 8 * 1024,
      requestTimeout: requestTimeoutMs,
      headersTimeout: requestTimeoutMs,
      keepAliveTimeout: 30_000,
      connectionsCheckingInterval: 5000,
    },
    (request, response) => {
      answer(request, options).then(
        (given) => {
          send(request, response, given);
        },
        (error: unknown) => {
          log.error({ err: error, path: pathOf(request) }, 'an HTTP request failed');
          send(request, response, { status: 500, type: plain, body: 'internal error\n' });
        },
      );
    },
  );
  server.maxConnections = 256;
  server.maxRequestsPerSocket = 10_000;
  server.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
    else socket.destroy();
  });
  await new Promise<void>((resolve, reject) => {
    const onError = (error: Error): void => {
      reject(listenError('listen.http', `${options.host}:${String(options.port)}`, error));
    };
    server.once('error', onError);
    server.listen(options.port, options.host, () => {
      server.off('error', onError);
      resolve();
    });
  });
  const host = options.host.includes(':') ? `[${options.host}]` : options.host;
  return {
    address: `${host}:${String((server.address() as AddressInfo).port)}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        server.closeAllConnections();
      }),
  };
}

async function answer(request: IncomingMessage, options: HttpListenerOptions): Promise<Answer> {
  if (request.method !== 'GET' && request.method !== 'HEAD') return { status: 405, type: plain, body: 'GET only\n' };
  switch (pathOf(request)) {
    case '/healthz':
      return { status: 200, type: plain, body: 'ok\n' };
    case '/readyz': {
      const { ready, detail } = options.readiness();
      if (!ready) return { status: 503, type: plain, body: `not ready: ${detail}\n` };
      return { status: 200, type: plain, body: detail === '' ? 'ready\n' : `ready: ${detail}\n` };
    }
    case '/metrics': {
      const { contentType, text } = await options.metrics();
      return { status: 200, type: contentType, body: text };
    }
    default:
      return publicPage(pathOf(request), options);
  }
}

async function publicPage(path: string, { pages, log }: HttpListenerOptions): Promise<Answer> {
  const make = pages?.get(path);
  if (!make) return { status: 404, type: plain, body: 'not found\n' };
  try {
    const { contentType, text, maxAgeSeconds } = await make();
    return { status: 200, type: contentType, body: text, maxAgeSeconds };
  } catch (error) {
    // Whoever asks keeps what it has, and comes again.
    log.warn({ err: error, path }, 'a public document could not be made');
    return { status: 503, type: plain, body: 'not now\n' };
  }
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '').split('?', 1)[0] ?? '';
}

function send(request: IncomingMessage, response: ServerResponse, { status, type, body, maxAgeSeconds }: Answer): void {
  const bytes = Buffer.from(body);
  response.writeHead(status, {
    'content-type': type,
    'content-length': bytes.length,
    'cache-control': maxAgeSeconds === undefined ? 'no-store' : `public, max-age=${String(maxAgeSeconds)}`,
    'x-content-type-options': 'nosniff',
    ...(status === 405 ? { allow: 'GET, HEAD', connection: 'close' } : {}),
  });
  response.end(request.method === 'HEAD' ? undefined : bytes);
}
