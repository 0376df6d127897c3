import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { protoRoot } from '../../src/base/proto-files.ts';

/** A client of the Workload API by the usual libraries: what it reads was decoded by other code than ours. */
export interface RawWorkloadClient extends Disposable {
  call(method: string, request: object, metadata?: grpc.Metadata): Promise<unknown>;
  stream(method: string, metadata?: grpc.Metadata): RawStateStream;
}

export interface RawStateStream {
  /** The next message. Rejects with the status once the stream has ended. */
  next(): Promise<Record<string, unknown>>;
  pause(): void;
  resume(): void;
  cancel(): void;
}

export const securityHeader = (): grpc.Metadata => {
  const metadata = new grpc.Metadata();
  metadata.set('workload.spiffe.io', 'true');
  return metadata;
};

const deadlineMs = 10_000;

export function rawWorkloadClient(socket: string): RawWorkloadClient {
  const loaded = loadSync('spiffe/workload.proto', { includeDirs: [protoRoot], keepCase: true, defaults: true });
  const service = loaded['SpiffeWorkloadAPI'] as Record<string, grpc.MethodDefinition<object, Record<string, unknown>>>;
  const client = new grpc.Client(`unix:${socket}`, grpc.credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
  const methodOf = (name: string): grpc.MethodDefinition<object, Record<string, unknown>> => {
    // A method that our file doesn't have: of the answer only the status counts.
    const known = service[name] ?? service['FetchX509SVID'];
    if (!known) throw new Error('no SpiffeWorkloadAPI');
    return { ...known, path: `/SpiffeWorkloadAPI/${name}` };
  };
  return {
    call(name, request, metadata = securityHeader()) {
      const { path, requestSerialize, responseDeserialize } = methodOf(name);
      return new Promise((resolve, reject) => {
        const deadline = Date.now() + deadlineMs;
        client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, metadata, { deadline }, (error, response) => {
          if (error) reject(error);
          else resolve(response);
        });
      });
    },
    stream(name, metadata = securityHeader()) {
      const { path, requestSerialize, responseDeserialize } = methodOf(name);
      const call = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, {}, metadata);
      const waiting: Record<string, unknown>[] = [];
      let failure: Error | undefined;
      let wake: (() => void) | undefined;
      call.on('data', (message: Record<string, unknown>) => {
        waiting.push(message);
        wake?.();
      });
      call.on('error', (error: Error) => {
        failure = error;
        wake?.();
      });
      call.on('end', () => {
        failure ??= new Error('ended with OK');
        wake?.();
      });
      return {
        async next() {
          const timeout = AbortSignal.timeout(deadlineMs);
          for (;;) {
            const message = waiting.shift();
            if (message) return message;
            if (failure) throw failure;
            await new Promise<void>((resolve, reject) => {
              wake = resolve;
              timeout.addEventListener('abort', () => {
                reject(new Error(`${name}: nothing came`));
              });
            });
          }
        },
        pause() {
          call.pause();
        },
        resume() {
          call.resume();
        },
        cancel() {
          call.cancel();
        },
      };
    },
    [Symbol.dispose]() {
      client.close();
    },
  };
}
