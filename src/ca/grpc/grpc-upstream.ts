import { isIP } from 'node:net';
import { join } from 'node:path';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import type { ClientUnaryCall, ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { MethodDefinition } from '@grpc/proto-loader';
import { abortable } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import { protoRoot } from '../../base/proto-files.ts';
import { readSecret } from '../../base/secret-file.ts';
import { splitAddress } from '../../config/address.ts';
import { serverNameCheck } from '../../x509/server-name.ts';
import type { TlsMaterial } from './tls-files.ts';
import { upstreamError } from './upstream-error.ts';

export interface GrpcUpstream {
  /** One try. Throws an AUTHORITY_ error, DEADLINE_EXCEEDED or CANCELLED; within a turn of the loop after an abort. */
  call<Response>(method: string, request: object, signal: AbortSignal, metadata?: Readonly<Record<string, string>>): Promise<Response>;
  /** Resolves once a connection stands, which may take 1.5 s. Throws as `call` does. */
  reach(signal: AbortSignal): Promise<void>;
  close(): void;
}

export interface GrpcUpstreamParts {
  /** For messages: `NAME (the Istio CA at HOST:PORT)`. */
  readonly what: string;
  readonly address: string;
  /** Default: the address's host. */
  readonly serverName?: string | undefined;
  /** Below proto/, and the service with its package. */
  readonly file: string;
  readonly service: string;
  /** What the connection is made with; another object is another connection. */
  readonly material: (signal: AbortSignal) => Promise<TlsMaterial>;
  readonly tokenFile?: string | undefined;
}

const largestResponse = 1024 * 1024;
const longestCallMs = 60_000;
/** Less than whoever asks for the health of a backend waits for it: the answer then says who doesn't answer. */
const reachMs = 1500;
const channelOptions = {
  'grpc.use_local_subchannel_pool': 1,
  'grpc.max_receive_message_length': largestResponse,
  // gRPC waits up to two minutes, and refuses calls meanwhile. A CA that is away is tried once a second by whoever stands
  // before it: the connection must not be what such a try fails by.
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 250,
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 5000,
};

/** A client whose calls are counted, so that it is closed only when the last has ended. */
interface Connection {
  readonly material: TlsMaterial;
  readonly client: Client;
  calls: number;
  retired: boolean;
}

/** One service of a CA on one connection, made anew when what it was made with changes. */
export function createGrpcUpstream(parts: GrpcUpstreamParts): GrpcUpstream {
  const { what, address, material, tokenFile } = parts;
  const { host } = splitAddress(address);
  const methods = methodsOf(parts.file, parts.service);
  let current: Connection | undefined;

  async function connection(signal: AbortSignal): Promise<Connection> {
    const tls = await abortable(material(signal), signal);
    if (current?.material === tls) return current;
    const { anchors, client } = tls;
    const channel = credentials.createSsl(
      Buffer.from(anchors),
      client ? Buffer.from(client.key) : null,
      client ? Buffer.from(client.chain) : null,
      { checkServerIdentity: serverNameCheck(parts.serverName ?? host) },
    );
    // An address is no TLS server name (RFC 6066 §3): what the server is called is checked by its SAN.
    const named = isIP(host) === 0 ? {} : { 'grpc.ssl_target_name_override': 'upstream.invalid' };
    retire();
    current = { material: tls, client: new Client(address, channel, { ...channelOptions, ...named }), calls: 0, retired: false };
    return current;
  }

  function retire(): void {
    if (!current) return;
    current.retired = true;
    if (current.calls === 0) current.client.close();
    current = undefined;
  }

  function release(used: Connection): void {
    used.calls--;
    if (used.retired && used.calls === 0) used.client.close();
  }

  async function metadataOf(fields: Readonly<Record<string, string>>): Promise<Metadata> {
    const metadata = new Metadata();
    for (const [key, value] of Object.entries(fields)) metadata.set(key, value);
    if (tokenFile !== undefined) metadata.set('authorization', `Bearer ${await bearer(tokenFile)}`);
    return metadata;
  }

  async function bearer(file: string): Promise<string> {
    const token = await readSecret('tokenFile', file).catch((error: unknown) => {
      throw new SignetError('AUTHORITY_MISCONFIGURED', `${what}: ${SignetError.from(error).message}`, { cause: error });
    });
    // Kept out of the message: what is in this file is a credential even if it is a broken one.
    if (!/^[A-Za-z0-9._~+/-]+=*$/.test(token.trim())) throw new SignetError('AUTHORITY_MISCONFIGURED', `${what}: tokenFile holds no token`);
    return token.trim();
  }

  return {
    async call<Response>(name: string, request: object, signal: AbortSignal, fields = {}) {
      if (signal.aborted) throw SignetError.from(signal.reason);
      const method = methods(name);
      const metadata = await abortable(metadataOf(fields), signal);
      const used = await connection(signal);
      used.calls++;
      let open: ClientUnaryCall | undefined;
      const answered = new Promise<Response>((resolve, reject) => {
        const settle = (error: ServiceError | null, response?: Response): void => {
          release(used);
          if (error) reject(upstreamError(error, what));
          else if (response === undefined) reject(new SignetError('AUTHORITY_UNAVAILABLE', `${what} answered with nothing`));
          else resolve(response);
        };
        const { path, requestSerialize, responseDeserialize } = method;
        const read = (bytes: Buffer): Response => responseDeserialize(bytes) as Response;
        // The caller's signal is the deadline; this one only sees to it that nothing is left behind for ever.
        const deadline = Date.now() + longestCallMs;
        open = used.client.makeUnaryRequest(path, requestSerialize, read, request, metadata, { deadline }, settle);
      });
      try {
        return await abortable(answered, signal);
      } catch (error) {
        open?.cancel();
        throw error;
      }
    },
    async reach(signal) {
      const used = await connection(signal);
      const ready = new Promise<void>((resolve, reject) => {
        used.client.waitForReady(Date.now() + reachMs, (error) => {
          if (error) reject(new SignetError('AUTHORITY_UNAVAILABLE', `${what} does not answer`, { cause: error }));
          else resolve();
        });
      });
      await abortable(ready, signal);
    },
    close: retire,
  };
}

/** int64 as numbers: seconds and counts stay well below 2^53. */
const loadOptions = { longs: Number, enums: String, defaults: true, keepCase: false, includeDirs: [protoRoot] };

function methodsOf(file: string, service: string): (name: string) => MethodDefinition<object, object> {
  const definition = loadSync(join(protoRoot, file), loadOptions)[service];
  if (definition === undefined || 'format' in definition) throw new TypeError(`${file} has no service ${service}`);
  return (name) => {
    const method = definition[name];
    if (!method) throw new TypeError(`${service} has no method ${name}`);
    return method;
  };
}
