import type { sendUnaryData, ServerUnaryCall } from '@grpc/grpc-js';
import { SignetError } from '../base/errors.ts';
import type { ErrorCode } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Credentials } from '../identity/authenticator.ts';
import { shownBy } from '../sds/shown.ts';
import type { IdentifiedCall } from '../sds/shown.ts';
import { credentialsFrom } from './credentials.ts';
import { checkDecoded } from './proto-service.ts';
import { toStatus } from './status.ts';
import type { StatusOf } from './status.ts';

/** Throws UNAUTHENTICATED. */
export function credentialsOf(call: IdentifiedCall, audiences: readonly string[]): Credentials {
  return credentialsFrom(shownBy(call), audiences);
}

/** What became of one call, for metrics. */
export interface CallOutcome {
  readonly method: string;
  readonly code: ErrorCode | 'OK';
  readonly seconds: number;
}

export interface CallShell {
  readonly log: Log;
  /** The longest that a call may take, its client's own deadline aside. */
  readonly timeoutMs: number;
  readonly observe?: ((outcome: CallOutcome) => void) | undefined;
  readonly statusOf?: StatusOf | undefined;
  /** Whose service it is: what a CA backend said is for the operator alone. Anybody's, if left out. */
  readonly audience?: 'operator' | 'anybody' | undefined;
}

export interface CallContext {
  /** Aborts when the client goes away, its deadline passes, or ours does. */
  readonly signal: AbortSignal;
  /** Adds to what is logged if the call fails, such as who called. */
  note(fields: Readonly<Record<string, unknown>>): void;
}

/** Whose fault it was decides how loudly it is logged. */
const clientsFault: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'UNAUTHENTICATED',
  'TOKEN_EXPIRED',
  'PERMISSION_DENIED',
  'IDENTITY_DENIED',
  'INSTANCE_REQUIRED',
  'INVALID_CSR',
  'CSR_NAME_REQUIRED',
  'INVALID_ARGUMENT',
  'TTL_TOO_LONG',
  'NOT_FOUND',
  'BINDING_CONFLICT',
  'RATE_LIMITED',
  'TOO_LARGE',
  'CANCELLED',
  'UNIMPLEMENTED',
]);

/** One line for a failed call, with its cause. Neither has the token: no error is made from one. */
export function logFailure(log: Log, method: string, failure: SignetError, fields: Readonly<Record<string, unknown>>): void {
  const line = { ...fields, method, code: failure.code, ...(failure.cause === undefined ? {} : { err: failure.cause }) };
  if (clientsFault.has(failure.code)) log.info(line, `call refused: ${failure.message}`);
  else log.error(line, `call failed: ${failure.message}`);
}

/**
 * A unary handler as grpc-js wants it, from a function that returns the response or throws. The call is answered once,
 * when it ends or when its time is over, whichever is first.
 */
export function unary<Request, Response>(
  method: string,
  shell: CallShell,
  handler: (call: ServerUnaryCall<Request, Response>, context: CallContext) => Promise<Response>,
): (call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>) => void {
  return (call, callback) => {
    const startedAt = performance.now();
    // One controller and one timer: AbortSignal.any and .timeout together cost more than all the rest of this file.
    const controller = new AbortController();
    let fields: Readonly<Record<string, unknown>> = {};
    let answered = false;

    const finish = (code: ErrorCode | 'OK'): boolean => {
      if (answered) return false;
      answered = true;
      clearTimeout(timer);
      shell.observe?.({ method, code, seconds: (performance.now() - startedAt) / 1000 });
      return true;
    };
    const fail = (error: unknown): void => {
      const failure = SignetError.from(error);
      if (!finish(failure.code)) return;
      logFailure(shell.log, method, failure, { peer: call.getPeer(), ...fields });
      callback(toStatus(failure, shell.statusOf, shell.audience));
    };
    const abort = (failure: SignetError): void => {
      controller.abort(failure);
      fail(failure);
    };
    const timer = setTimeout(() => {
      abort(new SignetError('DEADLINE_EXCEEDED', 'the call took too long'));
    }, shell.timeoutMs);
    call.on('cancelled', () => {
      // grpc-js says so at the end of every call, answered ones too.
      if (answered) return;
      abort(new SignetError('CANCELLED', 'the client went away or its deadline passed'));
    });

    const note = (more: Readonly<Record<string, unknown>>): void => {
      fields = { ...fields, ...more };
    };
    run(() => {
      checkDecoded(call.request);
      return handler(call, { signal: controller.signal, note });
    }).then((response) => {
      if (finish('OK')) callback(null, response);
    }, fail);
  };
}

async function run<T>(work: () => Promise<T>): Promise<T> {
  return work();
}
