import { createServer, get } from 'node:http';
import type { IncomingMessage, RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { once } from 'node:events';

/** A service of the demo: it knows nothing of TLS; its Envoy tells it who called. */
export interface Application {
  readonly port: number;
  close(): Promise<void>;
}

export interface Answer {
  readonly service: string;
  /** The SPIFFE ID of the caller, as Envoy verified it. */
  readonly caller: string;
  readonly next?: Answer;
}

const callMs = 2000;

/** `orders` answers by itself. */
export async function startOrders(): Promise<Application> {
  return serve((request, response) => {
    response.end(JSON.stringify({ service: 'orders', caller: callerOf(request) } satisfies Answer));
  });
}

/** `web` asks `orders` first, in clear, by its own Envoy's outbound listener. */
export async function startWeb(ordersPort: number): Promise<Application> {
  return serve((request, response) => {
    ask(ordersPort).then(
      (next) => response.end(JSON.stringify({ service: 'web', caller: callerOf(request), next } satisfies Answer)),
      (error: unknown) => {
        response.statusCode = 502;
        response.end(error instanceof Error ? error.message : 'failed');
      },
    );
  });
}

/** Envoy replaces what a client sends under this name (SANITIZE_SET), so its word is good here. */
function callerOf(request: IncomingMessage): string {
  const header = request.headers['x-forwarded-client-cert'];
  return /(?:^|;)URI=([^;,]*)/.exec(typeof header === 'string' ? header : '')?.[1] ?? '';
}

async function ask(port: number): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = get({ host: '127.0.0.1', port, agent: false, timeout: callMs }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.once('error', reject).once('end', () => {
        if (response.statusCode === 200) resolve(JSON.parse(body) as Answer);
        else reject(new Error(`orders answered ${String(response.statusCode)}: ${body.slice(0, 200)}`));
      });
    });
    request.once('timeout', () => request.destroy(new Error('orders took too long')));
    request.once('error', reject);
  });
}

async function serve(listener: RequestListener): Promise<Application> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
