import { credentials } from '@grpc/grpc-js';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { SignetError } from '../base/errors.ts';
import { dataFolderPaths } from '../store/data-folder.ts';
import type { Binding, Certificate, Denial, ServerStatus } from './admin-messages.ts';
import { openRpc } from '../api/rpc-client.ts';

/** The admin API of a running server, through the unix socket in its data folder. */
export interface AdminClient {
  /** Page by page, newest first. */
  certificates(filter: CertificateFilter): AsyncGenerator<readonly Certificate[]>;
  /** Throws NOT_FOUND. */
  certificate(serial: string): Promise<Certificate>;
  /** Those made: one for each instance that holds a stream. */
  renew(bearer: { readonly spiffeId: string; readonly instance: string }): Promise<readonly Certificate[]>;
  bindings(): AsyncGenerator<readonly Binding[]>;
  unbind(bearer: { readonly spiffeId: string; readonly instance: string }): Promise<boolean>;
  status(): Promise<ServerStatus>;
  watchStatus(signal: AbortSignal): AsyncGenerator<ServerStatus>;
  /** How many streams it ended. */
  deny(spiffeId: string, reason: string): Promise<number>;
  liftDenial(spiffeId: string): Promise<boolean>;
  denials(): Promise<readonly Denial[]>;
  close(): void;
}

export interface CertificateFilter {
  readonly spiffeId: string;
  readonly instance: string;
  readonly unexpired: boolean;
  readonly limit: number;
}

const deadlineMs = 10_000;
/** A renewal signs for every instance of the identity, perhaps by a remote CA. */
const renewDeadlineMs = 60_000;
const pageSize = 500;

interface CertificatePage {
  readonly certificates: readonly Certificate[];
  readonly nextPageToken: string;
}

interface BindingPage {
  readonly bindings: readonly Binding[];
  readonly nextPageToken: string;
}

/** The server's own CLI talks to its own socket: a folder that is not the server's is told from one whose server is away. */
export function openAdminClient(where: { readonly data: string; readonly socket?: string | undefined }): AdminClient {
  const socket = resolve(where.socket ?? dataFolderPaths(where.data).adminSocket);
  // sockaddr_un's limit, which the system would report as something else (unix(7)).
  if (Buffer.byteLength(socket) > 107) throw new SignetError('INVALID_ARGUMENT', `the socket's path is longer than 107 bytes: ${socket}`);
  const rpc = openRpc({
    address: `unix:${socket}`,
    credentials: credentials.createInsecure(),
    // The name in :authority would be the path, which not every character of is allowed there.
    options: { 'grpc.default_authority': 'localhost', 'grpc.enable_http_proxy': 0 },
    file: 'signet/v1/admin_service.proto',
    service: 'signet.v1.AdminService',
  });
  const call = async <Response>(method: string, request: object, ms = deadlineMs): Promise<Response> => {
    try {
      return await rpc.call<Response>(method, request, { deadlineMs: ms });
    } catch (error) {
      throw withAdvice(error, where.data, socket);
    }
  };
  return {
    async *certificates(filter) {
      let left = filter.limit;
      let pageToken = '';
      do {
        const request = { ...filter, pageSize: Math.min(left, pageSize), pageToken };
        const page: CertificatePage = await call<CertificatePage>('ListCertificates', request);
        yield page.certificates.slice(0, left);
        left -= page.certificates.length;
        pageToken = page.nextPageToken;
      } while (pageToken !== '' && left > 0);
    },
    certificate: (serial) => call('GetCertificate', { serial }),
    renew: async (bearer) =>
      (await call<{ certificates: readonly Certificate[] }>('RenewCertificate', bearer, renewDeadlineMs)).certificates,
    async *bindings() {
      let pageToken = '';
      do {
        const page: BindingPage = await call<BindingPage>('ListBindings', { pageSize, pageToken });
        yield page.bindings;
        pageToken = page.nextPageToken;
      } while (pageToken !== '');
    },
    unbind: async (bearer) => (await call<{ unbound: boolean }>('UnbindKey', bearer)).unbound,
    status: () => call('GetStatus', {}),
    async *watchStatus(signal) {
      try {
        yield* rpc.watch<ServerStatus>('WatchStatus', {}, signal);
      } catch (error) {
        throw withAdvice(error, where.data, socket);
      }
    },
    deny: async (spiffeId, reason) => (await call<{ streamsEnded: number }>('DenyIdentity', { spiffeId, reason })).streamsEnded,
    liftDenial: async (spiffeId) => (await call<{ lifted: boolean }>('LiftDenial', { spiffeId })).lifted,
    denials: async () => (await call<{ denials: readonly Denial[] }>('ListDenials', {})).denials,
    close: () => {
      rpc.close();
    },
  };
}

/** A server that is away and a folder that is not its own look the same from here. */
function withAdvice(error: unknown, data: string, socket: string): SignetError {
  const told = SignetError.from(error);
  if (told.code !== 'AUTHORITY_UNAVAILABLE' || existsSync(socket)) return told;
  return new SignetError(told.code, `no server runs on ${data} (there is no ${socket}): start it, or name its folder with --data`, {
    cause: told,
  });
}
