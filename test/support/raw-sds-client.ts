import { Client, credentials, Metadata } from '@grpc/grpc-js';
import type { ChannelCredentials, ClientDuplexStream, ClientOptions, StatusObject } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { MessageTypeDefinition } from '@grpc/proto-loader';
import { publishedFolders } from './published-protos.ts';

/** Speaks SDS by the published protos, not ours, and does only what it is told: no ACK by itself. */

export const secretType = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret';

export interface ReceivedSecret {
  readonly name: string;
  readonly type: string;
  readonly tls_certificate?: { readonly certificate_chain: DataSource; readonly private_key: DataSource };
  readonly validation_context?: { readonly trusted_ca: DataSource };
}

export interface DataSource {
  readonly specifier: 'filename' | 'inline_bytes' | 'inline_string';
  readonly filename?: string;
  readonly inline_bytes?: Buffer;
  readonly inline_string?: string;
}

/** A response of either form. */
export interface Received {
  readonly version: string;
  readonly nonce: string;
  readonly typeUrl: string;
  readonly secrets: readonly ReceivedSecret[];
  /** Delta: of each resource, by name. */
  readonly versions: Readonly<Record<string, string>>;
  readonly removed: readonly string[];
  readonly bytes: Buffer;
}

export interface RawStream {
  /** Fields as in the .proto file; the type URL is filled in. */
  send(request: object): void;
  sendBytes(bytes: Buffer): void;
  /** The next response; rejects if the stream ends before. */
  next(): Promise<Received>;
  /** Rejects if anything comes within `ms`. */
  quiet(ms?: number): Promise<void>;
  readonly ended: Promise<StatusObject>;
  readonly isEnded: boolean;
  halfClose(): void;
  cancel(): void;
  /** Stops taking responses from the transport. */
  pause(): void;
  resume(): void;
}

export interface RawSdsClient {
  stream(api: 'sotw' | 'delta', metadata?: Readonly<Record<string, string>>): RawStream;
  fetch(request: object, metadata?: Readonly<Record<string, string>>): Promise<Received>;
  close(): void;
}

const published = loadSync(['envoy/service/secret/v3/sds.proto', 'envoy/extensions/transport_sockets/tls/v3/secret.proto'], {
  includeDirs: [...publishedFolders],
  keepCase: true,
  oneofs: true,
  arrays: true,
});

function message(name: string): MessageTypeDefinition<object, object> {
  const definition = published[name];
  if (!definition || !('deserialize' in definition)) throw new Error(`no ${name}`);
  return definition as MessageTypeDefinition<object, object>;
}

const discovery = 'envoy.service.discovery.v3';
const forms = {
  sotw: { method: 'StreamSecrets', request: message(`${discovery}.DiscoveryRequest`), response: message(`${discovery}.DiscoveryResponse`) },
  delta: {
    method: 'DeltaSecrets',
    request: message(`${discovery}.DeltaDiscoveryRequest`),
    response: message(`${discovery}.DeltaDiscoveryResponse`),
  },
};
const secret = message('envoy.extensions.transport_sockets.tls.v3.Secret');
const path = '/envoy.service.secret.v3.SecretDiscoveryService/';
const asIs = (bytes: Buffer): Buffer => bytes;

interface AnyMessage {
  readonly type_url: string;
  readonly value: Buffer;
}

interface WireResponse {
  readonly version_info?: string;
  readonly system_version_info?: string;
  readonly nonce?: string;
  readonly type_url?: string;
  readonly resources: readonly (AnyMessage & { readonly name?: string; readonly version?: string; readonly resource?: AnyMessage })[];
  readonly removed_resources?: readonly string[];
}

function received(api: 'sotw' | 'delta', bytes: Buffer): Received {
  const wire = forms[api].response.deserialize(bytes) as WireResponse;
  const anys = wire.resources.map((resource) => resource.resource ?? resource);
  for (const { type_url } of anys) if (type_url !== secretType) throw new Error(`a resource of type ${type_url}`);
  return {
    version: wire.version_info ?? wire.system_version_info ?? '',
    nonce: wire.nonce ?? '',
    typeUrl: wire.type_url ?? '',
    secrets: anys.map(({ value }) => secret.deserialize(value) as ReceivedSecret),
    versions: Object.fromEntries(wire.resources.map(({ name, version }) => [name ?? '', version ?? ''])),
    removed: wire.removed_resources ?? [],
    bytes,
  };
}

export function rawSdsClient(
  address: string,
  channel: ChannelCredentials = credentials.createInsecure(),
  options: ClientOptions = {},
): RawSdsClient {
  const client = new Client(address, channel, { 'grpc.use_local_subchannel_pool': 1, ...options });
  return {
    stream(api, metadata = {}) {
      const { method, request } = forms[api];
      return rawStream(api, client.makeBidiStreamRequest(`${path}${method}`, asIs, asIs, metadataOf(metadata)), (fields) =>
        request.serialize({ type_url: secretType, ...fields }),
      );
    },
    fetch: (request, metadata = {}) =>
      new Promise((resolve, reject) => {
        const bytes = forms.sotw.request.serialize({ type_url: secretType, ...request });
        client.makeUnaryRequest(`${path}FetchSecrets`, asIs, asIs, bytes, metadataOf(metadata), (error, response) => {
          if (error) reject(error);
          else if (response) resolve(received('sotw', response));
          else reject(new Error('neither an error nor a response'));
        });
      }),
    close() {
      client.close();
    },
  };
}

function describe({ version, secrets, removed }: Received): string {
  return JSON.stringify({ version, secrets: secrets.map(({ name }) => name), removed: removed.length });
}

function metadataOf(fields: Readonly<Record<string, string>>): Metadata {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(fields)) metadata.set(key, value);
  return metadata;
}

function rawStream(api: 'sotw' | 'delta', call: ClientDuplexStream<Buffer, Buffer>, encode: (fields: object) => Buffer): RawStream {
  const inbox: Buffer[] = [];
  let wake: (() => void) | undefined;
  let isEnded = false;
  const ended = new Promise<StatusObject>((resolve) => {
    call.on('status', (status: StatusObject) => {
      isEnded = true;
      wake?.();
      resolve(status);
    });
  });
  call.on('error', () => undefined);
  call.on('data', (bytes: Buffer) => {
    inbox.push(bytes);
    wake?.();
  });
  /** Whether something came, or the stream ended, within the time. */
  const stirred = (ms: number): Promise<boolean> =>
    new Promise((resolve) => {
      const timer = setTimeout(() => {
        wake = undefined;
        resolve(false);
      }, ms);
      wake = () => {
        clearTimeout(timer);
        wake = undefined;
        resolve(true);
      };
    });
  return {
    send(request) {
      call.write(encode(request));
    },
    sendBytes(bytes) {
      call.write(bytes);
    },
    async next() {
      if (inbox.length === 0 && !isEnded && !(await stirred(10_000))) throw new Error('no response within 10 s');
      const bytes = inbox.shift();
      if (!bytes) {
        const { code, details } = await ended;
        throw new Error(`the stream ended: ${String(code)} ${details}`);
      }
      return received(api, bytes);
    },
    async quiet(ms = 150) {
      if (inbox.length > 0 || (!isEnded && (await stirred(ms)) && inbox.length > 0))
        throw new Error(`unexpected response: ${describe(received(api, inbox[0] ?? Buffer.alloc(0)))}`);
    },
    ended,
    get isEnded() {
      return isEnded;
    },
    halfClose() {
      call.end();
    },
    cancel() {
      call.cancel();
    },
    pause() {
      call.pause();
    },
    resume() {
      call.resume();
    },
  };
}
