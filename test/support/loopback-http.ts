import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';

/** A request as a handler of an emulation gets it. */
export interface LoopbackRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

export interface LoopbackAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: unknown;
}

/** A JSON service on 127.0.0.1 that can go away and come back at the same address. */
export interface LoopbackHttp extends AsyncDisposable {
  readonly url: string;
  stop(): Promise<void>;
  start(): Promise<void>;
}

export async function loopbackHttp(handle: (request: LoopbackRequest) => Promise<LoopbackAnswer>): Promise<LoopbackHttp> {
  let port = 0;
  let server: Server | undefined;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const { status, headers, body } = await handle({
      method: request.method ?? '',
      url: new URL(request.url ?? '/', `http://127.0.0.1:${String(port)}`),
      headers: request.headers,
      body: Buffer.concat(chunks).toString('utf8'),
    });
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
  }

  async function start(): Promise<void> {
    const next = createServer((request, response) => {
      answer(request, response).catch((error: unknown) => {
        response.writeHead(500).end(JSON.stringify({ message: String(error) }));
      });
    });
    await new Promise<void>((resolve, reject) => {
      next.once('error', reject);
      next.listen(port, '127.0.0.1', resolve);
    });
    const address = next.address();
    if (address !== null && typeof address === 'object') port = address.port;
    server = next;
  }

  async function stop(): Promise<void> {
    const closing = server;
    server = undefined;
    if (!closing) return;
    closing.closeAllConnections();
    await new Promise<void>((resolve) => {
      closing.close(() => {
        resolve();
      });
    });
  }

  await start();
  return { url: `http://127.0.0.1:${String(port)}`, stop, start, [Symbol.asyncDispose]: stop };
}
