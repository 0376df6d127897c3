import type { ServerWritableStream } from '@grpc/grpc-js';
import type { SignetError } from '../base/errors.ts';
import type { Message } from './published.ts';
import { statusOf, unavailable } from './refusal.ts';

export type StateCall = ServerWritableStream<Buffer, Buffer>;

export interface StateStream {
  /** Sends the state as it is now, if it isn't what was sent last. */
  refresh(): void;
  fail(failure: SignetError): void;
}

/**
 * A stream of whole states. At most one message is on its way; what changes meanwhile is sent in the next, as it is by
 * then. So a client that doesn't read costs the memory of one message, which all streams share.
 */
export function openStateStream(call: StateCall, current: () => Message, onFailure: (failure: SignetError) => void): StateStream {
  let sent: Buffer | undefined;
  let writing = false;
  let ended = false;
  call.once('close', () => {
    ended = true;
  });

  function fail(failure: SignetError): void {
    if (ended) return;
    ended = true;
    onFailure(failure);
    // grpc-js takes the status from an error event, and ends the stream by it.
    call.emit('error', statusOf(failure));
  }

  function refresh(): void {
    if (ended || writing) return;
    const message = current();
    if (typeof message === 'string') {
      // What is being replaced is still good: only a stream that has nothing yet is told to come back.
      if (message === 'denied' || !sent) fail(unavailable(message));
      return;
    }
    if (message === sent) return;
    sent = message;
    writing = true;
    call.write(message, () => {
      writing = false;
      refresh();
    });
  }

  return { refresh, fail };
}
