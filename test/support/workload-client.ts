import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { protoRoot } from '../../src/base/proto-files.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair, privateKeyPem, type KeyPair } from '../../src/x509/keys.ts';
import { pemEncode } from '../../src/x509/pem.ts';

const definitions = loadSync(['signet/v1/certificate_service.proto', 'istio/v1/auth/ca.proto'], {
  includeDirs: [protoRoot],
  keepCase: true,
  longs: Number,
  defaults: true,
});
type Method = grpc.MethodDefinition<object, unknown>;
const signCertificate = method('signet.v1.CertificateService', 'SignCertificate');
const bindKey = method('signet.v1.CertificateService', 'BindKey');
const createCertificate = method('istio.v1.auth.IstioCertificateService', 'CreateCertificate');

function method(service: string, name: string): Method {
  const found = definitions[service] as Record<string, Method> | undefined;
  const definition = found?.[name];
  if (!definition) throw new Error(`${service}/${name} is not in our protos`);
  return definition;
}

export interface Signed {
  readonly chain: readonly Buffer[];
  readonly anchors: readonly Buffer[];
  readonly serial: string;
  /** Seconds since the epoch. */
  readonly not_before: number;
  readonly not_after: number;
  readonly spiffe_id: string;
}

export interface Bound {
  readonly spiffe_id: string;
  readonly instance: string;
  readonly key_file: string;
  readonly key_ends: number;
}

/** A workload's certificate as PEM, with the key that it made itself. */
export interface Credential {
  readonly certificate: string;
  readonly key: string;
  readonly anchors: string;
  readonly serial: string;
  readonly notAfter: number;
}

export interface WorkloadClient {
  sign(wish: { readonly csr: Buffer; readonly ttlSeconds?: number }): Promise<Signed>;
  bind(wish: { readonly csr: Buffer; readonly keyDirectory: string }): Promise<Bound>;
  /** As istio-agent asks: a chain of PEM strings, root last. */
  istio(wish: { readonly csr: string; readonly seconds: number }): Promise<readonly string[]>;
  /** A new key, a CSR for it, and the certificate. */
  credential(ttlSeconds?: number): Promise<Credential>;
  close(): void;
}

/** Speaks Signet's workload APIs with a token, over TLS that trusts only `serverCa`. */
export function workloadClient(options: {
  readonly address: string;
  readonly serverCa: Buffer;
  readonly token: string;
  /** In the CSR of `credential`: some CAs certify nothing else. */
  readonly spiffeId?: string;
  readonly timeoutMs?: number;
}): WorkloadClient {
  const client = new grpc.Client(options.address, grpc.credentials.createSsl(options.serverCa), {
    // An address is no server name for TLS (RFC 6066 §3); a development server's certificate names this host too.
    'grpc.ssl_target_name_override': 'localhost',
  });
  const metadata = new grpc.Metadata();
  metadata.set('authorization', `Bearer ${options.token}`);

  async function call(definition: Method, request: object): Promise<unknown> {
    const deadline = Date.now() + (options.timeoutMs ?? 10_000);
    return new Promise((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = definition;
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, metadata, { deadline }, (error, response) => {
        if (error) reject(error);
        else resolve(response);
      });
    });
  }

  async function sign(wish: { readonly csr: Buffer; readonly ttlSeconds?: number }): Promise<Signed> {
    return (await call(signCertificate, { csr: wish.csr, ttl_seconds: wish.ttlSeconds ?? 0 })) as Signed;
  }

  return {
    sign,
    async bind(wish) {
      return (await call(bindKey, { csr: wish.csr, key_directory: wish.keyDirectory })) as Bound;
    },
    async istio(wish) {
      const response = await call(createCertificate, { csr: wish.csr, validity_duration: wish.seconds });
      return (response as { readonly cert_chain: readonly string[] }).cert_chain;
    },
    async credential(ttlSeconds) {
      const key: KeyPair = generateKeyPair();
      const signed = await sign({
        csr: createCsr(key, options.spiffeId === undefined ? [] : [options.spiffeId]),
        ...(ttlSeconds ? { ttlSeconds } : {}),
      });
      const pem = (ders: readonly Buffer[]): string => ders.map((der) => pemEncode('CERTIFICATE', der)).join('');
      const { serial, not_after } = signed;
      return {
        certificate: pem(signed.chain),
        key: privateKeyPem(key.privateKey),
        anchors: pem(signed.anchors),
        serial,
        notAfter: not_after * 1000,
      };
    },
    close() {
      client.close();
    },
  };
}
