import { Metadata, credentials } from '@grpc/grpc-js';
import { readFile } from 'node:fs/promises';
import { SignetError } from '../base/errors.ts';
import { readToken } from '../base/token-file.ts';
import { openRpc } from '../api/rpc-client.ts';

/** signet.v1.CertificateService as the workload's side uses it: proto/signet/v1/certificate_service.proto. */
export interface CertificateClient {
  bindKey(request: { readonly csr: Buffer; readonly keyDirectory: string }, signal?: AbortSignal): Promise<BoundKey>;
  signCertificate(request: { readonly csr: Buffer; readonly ttlSeconds: number }, signal?: AbortSignal): Promise<SignedCertificate>;
  close(): void;
}

export interface BoundKey {
  readonly spiffeId: string;
  readonly instance: string;
  readonly keyFile: string;
  /** Seconds since the epoch. */
  readonly keyEnds: number;
}

export interface SignedCertificate {
  /** DER, leaf first, no root. */
  readonly chain: readonly Buffer[];
  readonly anchors: readonly Buffer[];
  readonly serial: string;
  /** Seconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly spiffeId: string;
}

export interface CertificateClientSettings {
  /** host:port */
  readonly server: string;
  /** PEM file of the anchors that the server's certificate is pinned to. */
  readonly caFile: string;
  /** The name to find in the server's certificate, if not the host. */
  readonly serverName: string | undefined;
  /** Read anew for each call. */
  readonly tokenFile: string;
  /** `x-signet-instance`, where tokens name no instance. */
  readonly instance: string | undefined;
}

const deadlineMs = 30_000;

export async function openCertificateClient(settings: CertificateClientSettings): Promise<CertificateClient> {
  const { server, caFile, serverName } = settings;
  const ca = await readFile(caFile);
  // grpc-js gives TLS the host as server name even if it is an address, and Node deprecates that: nothing for our user to mend.
  process.noDeprecation = true;
  const rpc = openRpc({
    address: server,
    credentials: anchoredTo(ca, caFile),
    options: serverName === undefined ? {} : { 'grpc.ssl_target_name_override': serverName, 'grpc.default_authority': serverName },
    file: 'signet/v1/certificate_service.proto',
    service: 'signet.v1.CertificateService',
  });
  async function call<Response>(method: string, request: object, signal: AbortSignal | undefined): Promise<Response> {
    const metadata = new Metadata();
    metadata.set('authorization', `Bearer ${await readToken(settings.tokenFile)}`);
    if (settings.instance !== undefined) metadata.set('x-signet-instance', settings.instance);
    return rpc.call<Response>(method, request, { deadlineMs, metadata, ...(signal ? { signal } : {}) });
  }
  return {
    bindKey: (request, signal) => call('BindKey', request, signal),
    signCertificate: (request, signal) => call('SignCertificate', request, signal),
    close: () => {
      rpc.close();
    },
  };
}

function anchoredTo(ca: Buffer, file: string): ReturnType<typeof credentials.createSsl> {
  try {
    return credentials.createSsl(ca);
  } catch (error) {
    throw new SignetError('INVALID_ARGUMENT', `${file} holds no PEM certificate: give the server's server-ca.pem`, { cause: error });
  }
}
