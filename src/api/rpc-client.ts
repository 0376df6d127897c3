import type { ChannelCredentials, ChannelOptions, ClientDuplexStream, ClientReadableStream, Metadata, ServiceError } from '@grpc/grpc-js';
import { Client, connectivityState } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { join } from 'node:path';
import { protoRoot } from '../base/proto-files.ts';
import { remoteError } from './remote-error.ts';

export interface RpcTarget {
  /** As gRPC writes it: `host:port` or `unix:/path`. */
  readonly address: string;
  readonly credentials: ChannelCredentials;
  readonly options?: ChannelOptions;
  /** Of the .proto file, below proto/. */
  readonly file: string;
  /** With its package: `signet.v1.AdminService`. */
  readonly service: string;
}

/** One service on one channel, with a deadline on every call and foreign errors turned into ours. */
export interface Rpc {
  /** A field left out of the request has its default; every field of the response is there. */
  call<Response>(
    method: string,
    request: object,
    options: { deadlineMs: number; metadata?: Metadata; signal?: AbortSignal },
  ): Promise<Response>;
  /** Ends when the server ends it or the signal aborts; throws what the server said otherwise. */
  watch<Response>(method: string, request: object, signal: AbortSignal): AsyncGenerator<Response>;
  /** Bytes both ways, of any method, on the same connection. */
  duplex(path: string, metadata: Metadata): ClientDuplexStream<Buffer, Buffer>;
  /** Whether the connection stands or is being made: else the next call meets an old failure. */
  isUsable(): boolean;
  close(): void;
}

/** int64 as numbers: milliseconds and counters stay well below 2^53. */
const loadOptions = { longs: Number, enums: String, defaults: true, keepCase: false };
const largestResponse = 64 * 1024 * 1024;

export function openRpc(target: RpcTarget): Rpc {
  const definition = loadSync(join(protoRoot, target.file), { ...loadOptions, includeDirs: [protoRoot] })[target.service];
  if (definition === undefined || 'format' in definition) throw new TypeError(`${target.file} has no service ${target.service}`);
  const client = new Client(target.address, target.credentials, { 'grpc.max_receive_message_length': largestResponse, ...target.options });
  const methodOf = (name: string) => {
    const method = definition[name];
    if (!method) throw new TypeError(`${target.service} has no method ${name}`);
    return method;
  };
  return {
    call<Response>(name: string, request: object, options: { deadlineMs: number; metadata?: Metadata; signal?: AbortSignal }) {
      const { path, requestSerialize, responseDeserialize } = methodOf(name);
      return new Promise<Response>((resolve, reject) => {
        const deserialize = (bytes: Buffer) => responseDeserialize(bytes) as Response;
        const settle = (error: ServiceError | null, response?: Response) => {
          options.signal?.removeEventListener('abort', cancel);
          if (error || response === undefined) reject(remoteError(error, target.address));
          else resolve(response);
        };
        const deadline = { deadline: Date.now() + options.deadlineMs };
        const call = options.metadata
          ? client.makeUnaryRequest(path, requestSerialize, deserialize, request, options.metadata, deadline, settle)
          : client.makeUnaryRequest(path, requestSerialize, deserialize, request, deadline, settle);
        const cancel = (): void => {
          call.cancel();
        };
        if (options.signal?.aborted) cancel();
        options.signal?.addEventListener('abort', cancel, { once: true });
      });
    },
    async *watch<Response>(name: string, request: object, signal: AbortSignal) {
      const { path, requestSerialize, responseDeserialize } = methodOf(name);
      const stream: ClientReadableStream<Response> = client.makeServerStreamRequest(
        path,
        requestSerialize,
        (bytes: Buffer) => responseDeserialize(bytes) as Response,
        request,
      );
      const cancel = (): void => {
        stream.cancel();
      };
      signal.addEventListener('abort', cancel, { once: true });
      try {
        for await (const message of stream) yield message as Response;
      } catch (error) {
        if (!signal.aborted) throw remoteError(error, target.address);
      } finally {
        signal.removeEventListener('abort', cancel);
        stream.cancel();
      }
    },
    duplex: (path, metadata) => client.makeBidiStreamRequest(path, asIs, asIs, metadata),
    isUsable() {
      const state = client.getChannel().getConnectivityState(false);
      return state === connectivityState.READY || state === connectivityState.CONNECTING;
    },
    close: () => {
      client.close();
    },
  };
}

const asIs = (bytes: Buffer): Buffer => bytes;
