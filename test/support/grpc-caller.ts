import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { AnyDefinition, MessageTypeDefinition } from '@grpc/proto-loader';
import { protoRoot } from '../../src/base/proto-files.ts';

/** What went wrong with a call, as its client sees it. */
export interface Refusal {
  readonly code: number;
  readonly details: string;
  /** Of google.rpc.ErrorInfo. */
  readonly reason: string | undefined;
  readonly domain: string | undefined;
}

export interface GrpcCaller {
  call(method: string, request: object, metadata?: Readonly<Record<string, string | readonly string[]>>): Promise<unknown>;
  /** The refusal of a call that must fail. */
  refused(method: string, request: object, metadata?: Readonly<Record<string, string | readonly string[]>>): Promise<Refusal>;
  watch(method: string, request: object): grpc.ClientReadableStream<unknown>;
  close(): void;
}

const options = { includeDirs: [protoRoot], longs: Number, enums: String, defaults: true, keepCase: true };
const rich = loadSync(['google/rpc/status.proto', 'google/rpc/error_details.proto'], options);

/** A raw client of one of our services. */
export function grpcCaller(where: {
  readonly address: string;
  readonly credentials?: grpc.ChannelCredentials;
  readonly file: string;
  readonly service: string;
  readonly deadlineMs?: number;
}): GrpcCaller {
  const definition = loadSync(where.file, options)[where.service] as Record<string, grpc.MethodDefinition<object, unknown>> | undefined;
  if (!definition) throw new Error(`no ${where.service}`);
  const client = new grpc.Client(where.address, where.credentials ?? grpc.credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.default_authority': 'localhost',
    // An IP address is no TLS server name.
    'grpc.ssl_target_name_override': 'localhost',
  });
  const methodOf = (name: string): grpc.MethodDefinition<object, unknown> => {
    const method = definition[name];
    if (!method) throw new Error(`no ${name}`);
    return method;
  };

  async function call(name: string, request: object, fields: Readonly<Record<string, string | readonly string[]>> = {}): Promise<unknown> {
    const metadata = new grpc.Metadata();
    for (const [key, value] of Object.entries(fields)) for (const text of [value].flat()) metadata.add(key, text);
    const { path, requestSerialize, responseDeserialize } = methodOf(name);
    const deadline = Date.now() + (where.deadlineMs ?? 5000);
    return new Promise((resolve, reject) => {
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, metadata, { deadline }, (error, response) => {
        if (error) reject(error);
        else resolve(response);
      });
    });
  }

  return {
    call,
    async refused(name, request, metadata) {
      try {
        await call(name, request, metadata);
      } catch (error) {
        const failure = error as grpc.ServiceError;
        return { code: failure.code, details: failure.details, ...infoOf(failure.metadata) };
      }
      throw new Error(`${name} was not refused`);
    },
    watch(name, request) {
      const { path, requestSerialize, responseDeserialize } = methodOf(name);
      return client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
    },
    close() {
      client.close();
    },
  };
}

function isMessage(definition: AnyDefinition | undefined): definition is MessageTypeDefinition<object, object> {
  return definition !== undefined && 'deserialize' in definition;
}

/** ErrorInfo in the trailers of a failed call. */
export function infoOf(metadata: grpc.Metadata): { reason: string | undefined; domain: string | undefined } {
  const info = detailOf(metadata, 'ErrorInfo') as { reason: string; domain: string } | undefined;
  return info ?? { reason: undefined, domain: undefined };
}

/** When RetryInfo in the trailers of a failed call says to come back, in ms from now. */
export function retryAfterOf(metadata: grpc.Metadata): number | undefined {
  const info = detailOf(metadata, 'RetryInfo') as { retry_delay: { seconds: number; nanos: number } | null } | undefined;
  return info?.retry_delay ? info.retry_delay.seconds * 1000 + info.retry_delay.nanos / 1_000_000 : undefined;
}

function detailOf(metadata: grpc.Metadata, name: 'ErrorInfo' | 'RetryInfo'): object | undefined {
  const [trailer] = metadata.get('grpc-status-details-bin');
  const status = rich['google.rpc.Status'];
  const detail = rich[`google.rpc.${name}`];
  if (!Buffer.isBuffer(trailer) || !isMessage(status) || !isMessage(detail)) return undefined;
  const { details } = status.deserialize(trailer) as { readonly details: readonly { type_url: string; value: Buffer }[] };
  const found = details.find(({ type_url }) => type_url === `type.googleapis.com/google.rpc.${name}`);
  return found && detail.deserialize(found.value);
}
