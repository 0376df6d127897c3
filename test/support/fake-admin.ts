import { Metadata, Server, ServerCredentials, status } from '@grpc/grpc-js';
import type { handleServerStreamingCall, handleUnaryCall, UntypedServiceImplementation } from '@grpc/grpc-js';
import { protoService } from '../../src/api/proto-service.ts';
import { encodeErrorDetails } from '../../src/base/error-details.ts';
import { grpcStatus, SignetError } from '../../src/base/errors.ts';

type Answer = object | SignetError;

/**
 * The admin API as the CLI meets it, on a unix socket with the real codec and canned answers. A method that is not given
 * answers UNIMPLEMENTED.
 */
export async function fakeAdmin(
  socket: string,
  methods: Readonly<Record<string, (request: Readonly<Record<string, unknown>>) => Answer>>,
  streams: Readonly<Record<string, readonly object[]>> = {},
): Promise<AsyncDisposable> {
  const server = new Server();
  const unary = Object.entries(methods).map(([name, answer]): [string, handleUnaryCall<Readonly<Record<string, unknown>>, object>] => [
    name,
    (call, callback) => {
      const response = answer(call.request);
      if (response instanceof SignetError) callback(toStatus(response));
      else callback(null, response);
    },
  ]);
  const streaming = Object.entries(streams).map(([name, messages]): [string, handleServerStreamingCall<object, object>] => [
    name,
    (call) => {
      for (const message of messages) call.write(message);
      call.end();
    },
  ]);
  server.addService(
    protoService('signet/v1/admin_service.proto', 'signet.v1.AdminService'),
    Object.fromEntries<UntypedServiceImplementation[string]>([...unary, ...streaming]),
  );
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) => {
      if (error) reject(error);
      else resolve();
    });
  });
  return {
    [Symbol.asyncDispose]: async () => {
      server.forceShutdown();
      await Promise.resolve();
    },
  };
}

function toStatus(error: SignetError) {
  const metadata = new Metadata();
  const facts = { code: grpcStatus(error.code), message: error.message, reason: error.code, metadata: {}, retryAfterMs: undefined };
  metadata.set('grpc-status-details-bin', encodeErrorDetails(facts));
  // The CLI goes by the reason; of the status it only needs that it is one.
  return { code: status.FAILED_PRECONDITION, details: error.message, metadata };
}
