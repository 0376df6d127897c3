import type { ClientDuplexStream } from '@grpc/grpc-js';
import { credentials, Metadata, status } from '@grpc/grpc-js';
import { isIP } from 'node:net';
import { remoteError } from '../api/remote-error.ts';
import { openRpc } from '../api/rpc-client.ts';
import type { Rpc } from '../api/rpc-client.ts';
import type { Clock, Random } from '../base/clock.ts';
import { abortable, deadlineSignal } from '../base/deadline.ts';
import type { ErrorCode } from '../base/errors.ts';
import { SignetError } from '../base/errors.ts';
import { splitAddress } from '../config/address.ts';
import { serverNameCheck } from '../x509/server-name.ts';
import { createServerOrder } from './server-order.ts';
import { serverAnchors } from './server-trust.ts';
import type { ServerTrust } from './server-trust.ts';

/** What a workload proves itself with: its own token, or the certificate that it holds. Never another's. */
export type Credential =
  | { readonly kind: 'token'; readonly token: string }
  | { readonly kind: 'certificate'; readonly chainPem: string; readonly keyPem: string };

export interface UpstreamStream {
  write(bytes: Buffer): void;
  /** Settles once: resolves when the server ended the stream with OK, rejects with a SignetError otherwise, or when the signal aborts. */
  readonly ended: Promise<void>;
}

/** The servers, as one: the first that answers, with one connection that all workloads with tokens share. */
export interface Upstream {
  /** A call of signet.v1.CertificateService. Throws a SignetError. */
  call<Response>(method: string, request: object, credential: Credential, signal: AbortSignal): Promise<Response>;
  /** Opens DeltaSecrets on one of the servers; it may yet turn out to be away. Throws a SignetError. */
  secrets(credential: Credential, onMessage: (bytes: Buffer) => void, signal: AbortSignal): Promise<UpstreamStream>;
  close(): void;
}

export interface UpstreamParts {
  /** host:port, in the order in which they are asked. */
  readonly servers: readonly string[];
  readonly trust: ServerTrust;
  /** What the servers' certificate must be of: a SPIFFE ID, a DNS name or an address. */
  readonly serverName: string;
  readonly clock: Clock;
  readonly random: Random;
}

const callMs = 10_000;
const connectMs = 10_000;
const deltaSecrets = '/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets';

/** Codes after which another server may do better. */
const away: ReadonlySet<ErrorCode> = new Set([
  'AUTHORITY_UNAVAILABLE',
  'AUTHORITY_THROTTLED',
  'IDENTITY_SOURCE_UNAVAILABLE',
  'DEADLINE_EXCEEDED',
  'OVERLOADED',
  'CLOCK_BEHIND',
]);

/** Whether trying again soon can help: nobody was there, or who was there can't serve now. */
export function isAway(code: ErrorCode): boolean {
  return away.has(code);
}

interface Connection {
  readonly rpc: Rpc;
  /** After the call or stream that it was opened for; a shared one stays. */
  release(): void;
  /** After a failure: a connection that doesn't stand is made anew by the next call, on anchors that are read anew. */
  failed(): void;
}

export function createUpstream(parts: UpstreamParts): Upstream {
  const { servers, clock } = parts;
  const order = createServerOrder(servers.length, parts.random);
  const shared = new Map<number, Promise<Rpc>>();
  const closing = new AbortController();

  async function open(server: number, credential: Credential | undefined): Promise<Rpc> {
    const address = servers[server] ?? '';
    const anchors = await serverAnchors(parts.trust, address, clock, deadlineSignal(connectMs, closing.signal));
    closing.signal.throwIfAborted();
    const own = credential?.kind === 'certificate' ? [Buffer.from(credential.keyPem), Buffer.from(credential.chainPem)] : [null, null];
    const [key = null, chain = null] = own;
    return openRpc({
      address,
      credentials: credentials.createSsl(Buffer.from(anchors), key, chain, { checkServerIdentity: serverNameCheck(parts.serverName) }),
      options: { ...channelOptions, ...nameOption(address) },
      file: 'signet/v1/certificate_service.proto',
      service: 'signet.v1.CertificateService',
    });
  }

  async function connect(server: number, credential: Credential, signal: AbortSignal): Promise<Connection> {
    if (credential.kind === 'certificate') {
      const rpc = await abortable(open(server, credential), signal);
      return { rpc, release: rpc.close, failed: () => undefined };
    }
    const known = shared.get(server);
    const opening = known ?? open(server, undefined);
    if (!known) {
      shared.set(server, opening);
      // Nothing to share: the next one tries again.
      opening.catch(() => {
        if (shared.get(server) === opening) shared.delete(server);
      });
    }
    const rpc = await abortable(opening, signal);
    return {
      rpc,
      release: () => undefined,
      failed() {
        if (shared.get(server) !== opening || rpc.isUsable()) return;
        shared.delete(server);
        rpc.close();
      },
    };
  }

  /** Asks one server after the other until one answers, be it with a refusal. */
  async function ask<T>(
    credential: Credential,
    signal: AbortSignal,
    work: (connection: Connection, server: number) => Promise<T>,
  ): Promise<T> {
    const tried = new Set<number>();
    let last = new SignetError('AUTHORITY_UNAVAILABLE', 'no server is configured');
    for (let server = order.next(clock.now(), tried); server !== undefined; server = order.next(clock.now(), tried)) {
      tried.add(server);
      let connection: Connection | undefined;
      try {
        connection = await connect(server, credential, signal);
        return await work(connection, server);
      } catch (error) {
        last = SignetError.from(error);
        connection?.failed();
        connection?.release();
        if (!isAway(last.code)) throw last;
        order.failed(server, clock.now());
      }
    }
    throw last;
  }

  return {
    call: <Response>(method: string, request: object, credential: Credential, signal: AbortSignal) =>
      ask(credential, AbortSignal.any([signal, closing.signal]), async (connection, server) => {
        const metadata = metadataOf(credential);
        const response = await connection.rpc.call<Response>(method, request, { deadlineMs: callMs, metadata, signal });
        order.answered(server);
        connection.release();
        return response;
      }),

    secrets: (credential, onMessage, signal) =>
      ask(credential, AbortSignal.any([signal, closing.signal]), (connection, server) => {
        const call = connection.rpc.duplex(deltaSecrets, metadataOf(credential));
        const ended = endOf(call, servers[server] ?? '', AbortSignal.any([signal, closing.signal]), (failure) => {
          connection.failed();
          connection.release();
          if (failure && isAway(failure.code)) order.failed(server, clock.now());
        });
        call.on('data', (bytes: Buffer) => {
          order.answered(server);
          onMessage(bytes);
        });
        return Promise.resolve({ write: (bytes) => void call.write(bytes), ended });
      }),

    close() {
      closing.abort(new SignetError('CANCELLED', 'the agent is stopping'));
      for (const opening of shared.values())
        opening.then(
          (rpc) => {
            rpc.close();
          },
          () => undefined,
        );
      shared.clear();
    },
  };
}

function endOf(
  call: ClientDuplexStream<Buffer, Buffer>,
  address: string,
  signal: AbortSignal,
  settled: (failure: SignetError | undefined) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const cancel = (): void => {
      call.cancel();
    };
    const settle = (failure: SignetError | undefined): void => {
      signal.removeEventListener('abort', cancel);
      settled(failure);
      if (failure) reject(failure);
      else resolve();
    };
    call.once('error', (error) => {
      settle(remoteError(error, address));
    });
    // Also after an error, where it comes too late to matter.
    call.once('status', ({ code }) => {
      if (code === status.OK) settle(undefined);
    });
    if (signal.aborted) cancel();
    else signal.addEventListener('abort', cancel, { once: true });
  });
}

function metadataOf(credential: Credential): Metadata {
  const metadata = new Metadata();
  if (credential.kind === 'token') metadata.set('authorization', `Bearer ${credential.token}`);
  return metadata;
}

const channelOptions = {
  'grpc.use_local_subchannel_pool': 1,
  // Two minutes is what gRPC waits at most; ours have to be back within seconds of a server's return.
  'grpc.initial_reconnect_backoff_ms': 250,
  'grpc.max_reconnect_backoff_ms': 1000,
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 5000,
};

/** An address is no TLS server name (RFC 6066 §3), and Node warns of it: what the server is called is checked by its SAN. */
function nameOption(address: string): Readonly<Record<string, string>> {
  return isIP(splitAddress(address).host) === 0 ? {} : { 'grpc.ssl_target_name_override': 'signet.invalid' };
}
