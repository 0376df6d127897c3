import { setImmediate as turn } from 'node:timers/promises';
import type { sendUnaryData, Server, ServerUnaryCall, ServiceDefinition, UntypedHandleCall } from '@grpc/grpc-js';
import type { Clock } from '../base/clock.ts';
import { abortable, deadlineSignal } from '../base/deadline.ts';
import { grpcStatus, SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { isSpiffeId } from '../spiffe/id.ts';
import { createJwtValidator } from './jwt-validation.ts';
import {
  decodeJwtRequest,
  decodeValidateRequest,
  encodeJwtBundles,
  encodeJwtSvids,
  encodeValidated,
  encodeX509Bundles,
  encodeX509Svids,
} from './messages.ts';
import { published } from './published.ts';
import type { Message } from './published.ts';
import { checkSecurityHeader, statusOf, unavailable } from './refusal.ts';
import { openStateStream } from './state-stream.ts';
import type { StateCall, StateStream } from './state-stream.ts';
import type { WorkloadSource } from './workload-source.ts';

/** What one workload can make us do. The size of a message and the age of a connection are the server's to bound. */
export interface WorkloadApiLimits {
  /** Open at once. A process with go-spiffe's sources has three or four. */
  readonly maxStreams: number;
  /** JWT-SVIDs asked for or validated at once. */
  readonly maxCalls: number;
  readonly callTimeoutMs: number;
  readonly maxAudiences: number;
  readonly maxAudienceLength: number;
}

export const defaultWorkloadApiLimits: WorkloadApiLimits = {
  maxStreams: 1000,
  maxCalls: 100,
  callTimeoutMs: 10_000,
  maxAudiences: 32,
  maxAudienceLength: 2048,
};

export interface WorkloadApiParts {
  readonly source: WorkloadSource;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits?: Partial<WorkloadApiLimits>;
}

export interface WorkloadApiService {
  register(server: Server): void;
  /** Ends all streams with UNAVAILABLE and takes no new ones. Resolves once they are closed, or when the signal aborts. */
  drain(signal: AbortSignal): Promise<void>;
  readonly streamCount: number;
}

/** Of the event loop, until what was said last has been handed to the socket. */
const turnsToWrite = 5;

type UnaryCall = ServerUnaryCall<Buffer, Buffer>;

/** The SPIFFE Workload API of one workload: whoever reaches the server that this is registered on is that workload. */
export function createWorkloadApi({ source, clock, log, limits: given }: WorkloadApiParts): WorkloadApiService {
  const limits: WorkloadApiLimits = { ...defaultWorkloadApiLimits, ...given };
  const validator = createJwtValidator(clock);
  const readX509 = (): ReturnType<WorkloadSource['x509']> => source.x509();
  const x509Svids = published(readX509, encodeX509Svids);
  const x509Bundles = published(readX509, encodeX509Bundles);
  const jwtBundles = published(() => source.jwtBundles(), encodeJwtBundles);
  const streams = new Set<StateStream>();
  let calls = 0;
  let draining = false;
  let stopListening: (() => void) | undefined;
  let onEmpty: (() => void) | undefined;

  function stream(method: string, read: () => Message): (call: StateCall) => void {
    const current = (): Message => {
      try {
        return read();
      } catch (error) {
        log.error({ err: error, method }, 'the state of a workload can not be encoded');
        // What was sent last is still good.
        return 'pending';
      }
    };
    return (call) => {
      const opened = openStateStream(call, current, (failure) => {
        report(method, failure);
      });
      try {
        checkSecurityHeader(call.metadata);
        if (draining) throw new SignetError('OVERLOADED', 'the agent is stopping');
        if (streams.size >= limits.maxStreams) throw new SignetError('RATE_LIMITED', 'too many streams of this workload are open');
      } catch (error) {
        opened.fail(SignetError.from(error));
        return;
      }
      streams.add(opened);
      stopListening ??= source.subscribe(() => {
        for (const one of streams) one.refresh();
      });
      call.once('close', () => {
        streams.delete(opened);
        if (streams.size > 0) return;
        stopListening?.();
        stopListening = undefined;
        onEmpty?.();
      });
      opened.refresh();
    };
  }

  function unary(method: string, answer: (request: Buffer, signal: AbortSignal) => Promise<Buffer>) {
    return (call: UnaryCall, callback: sendUnaryData<Buffer>): void => {
      const gone = new AbortController();
      call.once('cancelled', () => {
        gone.abort(new SignetError('CANCELLED', 'the call was cancelled'));
      });
      const signal = deadlineSignal(limits.callTimeoutMs, gone.signal);
      calls++;
      admitted(call)
        .then(() => abortable(answer(call.request, signal), signal))
        .then(
          (response) => {
            callback(null, response);
          },
          (error: unknown) => {
            const failure = SignetError.from(error);
            report(method, failure);
            callback(statusOf(failure));
          },
        )
        .finally(() => calls--);
    };
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- so that what it throws is a rejection
  async function admitted(call: UnaryCall): Promise<void> {
    checkSecurityHeader(call.metadata);
    if (calls > limits.maxCalls) throw new SignetError('RATE_LIMITED', 'too many calls of this workload are under way');
  }

  async function fetchJwtSvid(bytes: Buffer, signal: AbortSignal): Promise<Buffer> {
    const { audiences, spiffeId } = decodeJwtRequest(bytes);
    if (audiences.length === 0) throw new SignetError('INVALID_ARGUMENT', 'a JWT-SVID needs at least one audience');
    if (audiences.length > limits.maxAudiences)
      throw new SignetError('INVALID_ARGUMENT', `a JWT-SVID has at most ${String(limits.maxAudiences)} audiences`);
    for (const audience of audiences) checkAudience(audience);
    if (spiffeId !== '' && !isSpiffeId(spiffeId)) throw new SignetError('INVALID_ARGUMENT', 'spiffe_id is not a SPIFFE ID');
    const svids = await source.fetchJwtSvids({ audiences, spiffeId: spiffeId === '' ? undefined : spiffeId }, signal);
    if (svids.length === 0) throw unavailable('denied');
    return encodeJwtSvids(svids);
  }

  async function validateJwtSvid(bytes: Buffer): Promise<Buffer> {
    const request = decodeValidateRequest(bytes);
    checkAudience(request.audience);
    if (request.token === '') throw new SignetError('INVALID_ARGUMENT', 'svid is empty: send the JWT-SVID to validate');
    const bundles = source.jwtBundles();
    if (typeof bundles === 'string') throw unavailable(bundles);
    const { spiffeId, claims } = await validator.validate(request, bundles);
    return encodeValidated(spiffeId, claims);
  }

  function checkAudience(audience: string): void {
    if (audience === '') throw new SignetError('INVALID_ARGUMENT', 'an audience is missing or empty');
    if (audience.length > limits.maxAudienceLength)
      throw new SignetError('INVALID_ARGUMENT', `an audience has at most ${String(limits.maxAudienceLength)} characters`);
  }

  function report(method: string, failure: SignetError): void {
    const fields = { method, code: failure.code, err: failure };
    if (grpcStatus(failure.code) === grpcStatus('INTERNAL')) log.error(fields, 'Workload API call failed');
    else log.info(fields, 'Workload API call refused');
  }

  return {
    register(server) {
      const handlers: Record<string, UntypedHandleCall> = {
        FetchX509SVID: stream('FetchX509SVID', x509Svids),
        FetchX509Bundles: stream('FetchX509Bundles', x509Bundles),
        FetchJWTBundles: stream('FetchJWTBundles', jwtBundles),
        FetchJWTSVID: unary('FetchJWTSVID', fetchJwtSvid),
        ValidateJWTSVID: unary('ValidateJWTSVID', validateJwtSvid),
      };
      server.addService(workloadApi, handlers);
    },
    async drain(signal) {
      draining = true;
      const empty = new Promise<void>((resolve) => {
        onEmpty = resolve;
        signal.addEventListener(
          'abort',
          () => {
            resolve();
          },
          { once: true },
        );
      });
      // Clients come back after this one (Workload API §4); an end with OK is one that some take for the last word.
      for (const one of streams) one.fail(new SignetError('OVERLOADED', 'the agent is stopping'));
      if (streams.size > 0 && !signal.aborted) await empty;
      // A call is closed for grpc-js before its status is on the wire, and a session that is destroyed by then cancels
      // it instead: go-spiffe takes CANCELLED for the last word and never comes back.
      for (let i = 0; i < turnsToWrite; i++) await turn();
    },
    get streamCount() {
      return streams.size;
    },
  };
}

const asIs = (bytes: Buffer): Buffer => bytes;
const bytes = { requestSerialize: asIs, requestDeserialize: asIs, responseSerialize: asIs, responseDeserialize: asIs };
const path = '/SpiffeWorkloadAPI/';
const method = (name: string, responseStream: boolean) => ({ path: `${path}${name}`, requestStream: false, responseStream, ...bytes });

/** FetchWITSVID and FetchWITBundles are not there, which gRPC answers with UNIMPLEMENTED. */
const workloadApi: ServiceDefinition = {
  FetchX509SVID: method('FetchX509SVID', true),
  FetchX509Bundles: method('FetchX509Bundles', true),
  FetchJWTSVID: method('FetchJWTSVID', false),
  FetchJWTBundles: method('FetchJWTBundles', true),
  ValidateJWTSVID: method('ValidateJWTSVID', false),
};
