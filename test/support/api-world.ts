import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { Authenticator, Credentials } from '../../src/identity/authenticator.ts';
import type { Caller } from '../../src/identity/caller.ts';
import { SignetError } from '../../src/base/errors.ts';
import { callerOf, issuingWorld } from './issuing-world.ts';
import type { IssuingWorld, WorldOptions } from './issuing-world.ts';

/** The real issuing pipeline, behind an authenticator that knows its callers by the word that they show as a token. */
export interface ApiWorld extends AsyncDisposable {
  readonly issuing: IssuingWorld;
  /** What each call showed of itself, in order. */
  readonly shown: Credentials[];
  readonly authenticate: Authenticator['authenticate'];
  /** Serves what is registered, without TLS, on a free port; resolves with HOST:PORT. */
  serve(register: (server: Server) => void): Promise<string>;
}

export async function apiWorld(options: WorldOptions = {}): Promise<ApiWorld> {
  const issuing = await issuingWorld({ keyMode: 'csr', ...options });
  const shown: Credentials[] = [];
  const servers: Server[] = [];
  const callers = new Map<string, () => Caller>([
    ['web', () => callerOf(issuing, 'web', 'pod:web-0')],
    ['nobody', () => callerOf(issuing, 'web', undefined)],
    ['picky', () => callerOf(issuing, 'picky', 'pod:picky-0')],
    ['node', () => callerOf(issuing, 'node-proxy', 'pod:node-1', { pod: { namespace: 'shop', name: 'node-proxy-x', uid: 'node-1' } })],
    ['by-certificate', () => callerOf(issuing, 'web', 'pod:web-0', { authenticatedBy: 'certificate' })],
  ]);
  return {
    issuing,
    shown,
    authenticate(credentials) {
      shown.push(credentials);
      if (credentials.token === 'away')
        return Promise.reject(
          new SignetError('IDENTITY_SOURCE_UNAVAILABLE', 'the keys of the issuer can not be had now', { retryAfterMs: 1500 }),
        );
      if (credentials.token === 'old')
        return Promise.reject(new SignetError('TOKEN_EXPIRED', 'the token expired at 2026-01-01T00:00:00.000Z'));
      const caller = callers.get(credentials.token ?? '');
      if (!caller)
        return Promise.reject(
          new SignetError('UNAUTHENTICATED', 'authentication failed', { cause: new Error('unknown-key: the reason is for the log') }),
        );
      return Promise.resolve(caller());
    },
    async serve(register) {
      const server = new Server({ 'grpc.max_receive_message_length': 256 * 1024 });
      servers.push(server);
      register(server);
      const port = await new Promise<number>((resolve, reject) => {
        server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
          if (error) reject(error);
          else resolve(bound);
        });
      });
      return `127.0.0.1:${String(port)}`;
    },
    async [Symbol.asyncDispose]() {
      for (const server of servers) server.forceShutdown();
      await issuing[Symbol.asyncDispose]();
    },
  };
}
