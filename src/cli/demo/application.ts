import { createServer, get } from 'node:http';
import type { IncomingMessage } from 'node:http';
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

export interface ApplicationSettings {
  readonly name: string;
  readonly host: string;
  /** 0 for a free one. */
  readonly port: number;
  /** Asked before each answer, in clear: its own Envoy's outbound listener. */
  readonly next?: { readonly host: string; readonly port: number };
}

/** Answers every GET with who called, and what the next service said of it; /healthz by itself. */
export async function startApplication(settings: ApplicationSettings): Promise<Application> {
  const { name, next } = settings;
  const server = createServer((request, response) => {
    if (request.url === '/healthz') {
      response.end('ok\n');
      return;
    }
    const answer = async (): Promise<Answer> => ({
      service: name,
      caller: callerOf(request),
      ...(next === undefined ? {} : { next: await ask(next) }),
    });
    answer().then(
      (given) => response.end(`${JSON.stringify(given)}\n`),
      (error: unknown) => {
        response.statusCode = 502;
        response.end(error instanceof Error ? error.message : 'failed');
      },
    );
  });
  // Envoy closes what is idle. Did we, it could send a request just then, and could only answer 503.
  server.keepAliveTimeout = 0;
  server.listen(settings.port, settings.host);
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

/** Envoy replaces what a client sends under this name (SANITIZE_SET), so its word is good here. */
function callerOf(request: IncomingMessage): string {
  const header = request.headers['x-forwarded-client-cert'];
  return /(?:^|;)URI=([^;,]*)/.exec(typeof header === 'string' ? header : '')?.[1] ?? '';
}

async function ask(next: { readonly host: string; readonly port: number }): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = get({ ...next, agent: false, timeout: callMs }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.once('error', reject).once('end', () => {
        if (response.statusCode === 200) resolve(JSON.parse(body) as Answer);
        else reject(new Error(`the next service answered ${String(response.statusCode)}: ${body.slice(0, 200)}`));
      });
    });
    request.once('timeout', () => request.destroy(new Error('the next service took too long')));
    request.once('error', reject);
  });
}
