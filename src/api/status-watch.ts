import type { ServerWritableStream } from '@grpc/grpc-js';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { toStatus } from './status.ts';

export interface StatusWatchParts {
  readonly status: () => Promise<object>;
  /** Called when a status may have changed. Returns how to stop. */
  readonly onChange: (listener: () => void) => () => void;
  readonly log: Log;
}

export interface StatusWatches {
  serve(call: ServerWritableStream<unknown, object>): void;
  /** Ends all watches with OK. */
  close(): void;
}

/** At most four statuses a second. */
const shortestGapMs = 250;
/** A status also has what changes without a word: what has expired, whether signing works. */
const longestGapMs = 10_000;
const mostWatches = 64;

/** Streams of statuses: at once, then after each change. A client that reads slowly gets fewer, never a queue of old ones. */
export function createStatusWatches(parts: StatusWatchParts): StatusWatches {
  const ends = new Set<() => void>();

  function serve(call: ServerWritableStream<unknown, object>): void {
    if (ends.size >= mostWatches) {
      call.emit('error', toStatus(new SignetError('TOO_LARGE', 'too many watches of the status')));
      return;
    }
    let timer: NodeJS.Timeout | undefined;
    let sentAt = Number.NEGATIVE_INFINITY;
    let sending = false;
    let changed = false;
    let over = false;

    function schedule(delayMs: number): void {
      clearTimeout(timer);
      timer = setTimeout(send, delayMs);
    }
    function send(): void {
      sending = true;
      changed = false;
      parts.status().then((status) => {
        if (over) return;
        sentAt = performance.now();
        if (call.write(status)) ready();
        else call.once('drain', ready);
      }, fail);
    }
    function ready(): void {
      if (over) return;
      sending = false;
      schedule(changed ? shortestGapMs : longestGapMs);
    }
    function fail(error: unknown): void {
      if (over) return;
      stop();
      parts.log.error({ err: error }, 'a status could not be made');
      call.emit('error', toStatus(error));
    }
    function stop(): void {
      over = true;
      clearTimeout(timer);
      unsubscribe();
      ends.delete(end);
    }
    function end(): void {
      if (over) return;
      stop();
      call.end();
    }

    const unsubscribe = parts.onChange(() => {
      if (changed || over) return;
      changed = true;
      if (!sending) schedule(Math.max(0, shortestGapMs - (performance.now() - sentAt)));
    });
    ends.add(end);
    call.on('cancelled', stop);
    call.on('close', stop);
    send();
  }

  return {
    serve,
    close() {
      for (const end of [...ends]) end();
    },
  };
}
