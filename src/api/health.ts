import type { Server, ServerUnaryCall, ServerWritableStream } from '@grpc/grpc-js';
import { SignetError } from '../base/errors.ts';
import type { CallShell } from './call.ts';
import { unary } from './call.ts';
import { checkDecoded, protoService } from './proto-service.ts';
import { toStatus } from './status.ts';

export interface Health {
  register(server: Server): void;
  /** Of the server as a whole and of every service alike. */
  setServing(serving: boolean): void;
  /** Ends all watches with OK. */
  close(): void;
}

interface HealthRequest {
  readonly service: string;
}

interface HealthResponse {
  readonly status: 'SERVING' | 'NOT_SERVING' | 'SERVICE_UNKNOWN';
}

/** Nobody proves who they are to ask for health, so no number of watches may cost much. */
const mostWatches = 256;

/** grpc.health.v1 (https://github.com/grpc/grpc/blob/master/doc/health-checking.md). `services` are the names that are known besides "". */
export function createHealth(shell: CallShell, services: readonly string[]): Health {
  const known = new Set(['', ...services]);
  const watches = new Map<ServerWritableStream<HealthRequest, HealthResponse>, string>();
  let serving = false;

  function statusOf(service: string): HealthResponse['status'] {
    if (!known.has(service)) return 'SERVICE_UNKNOWN';
    return serving ? 'SERVING' : 'NOT_SERVING';
  }

  function check(call: ServerUnaryCall<HealthRequest, HealthResponse>): Promise<HealthResponse> {
    const status = statusOf(call.request.service);
    if (status === 'SERVICE_UNKNOWN') throw new SignetError('NOT_FOUND', 'there is no such service');
    return Promise.resolve({ status });
  }

  function watch(call: ServerWritableStream<HealthRequest, HealthResponse>): void {
    try {
      checkDecoded(call.request);
      if (watches.size >= mostWatches) throw new SignetError('TOO_LARGE', 'too many watches of health');
    } catch (error) {
      call.emit('error', toStatus(error));
      return;
    }
    watches.set(call, call.request.service);
    const forget = (): void => {
      watches.delete(call);
    };
    call.on('cancelled', forget);
    call.on('close', forget);
    call.write({ status: statusOf(call.request.service) });
  }

  return {
    register(server) {
      server.addService(protoService('grpc/health/v1/health.proto', 'grpc.health.v1.Health'), {
        Check: unary('grpc.health.v1.Health/Check', shell, check),
        Watch: watch,
      });
    },
    setServing(now) {
      if (now === serving) return;
      serving = now;
      for (const [call, service] of watches) if (known.has(service)) call.write({ status: statusOf(service) });
    },
    close() {
      for (const call of watches.keys()) call.end();
      watches.clear();
    },
  };
}
