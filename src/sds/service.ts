import type { handleUnaryCall, Server, ServiceDefinition, UntypedHandleCall } from '@grpc/grpc-js';
import type { Clock, Random } from '../base/clock.ts';
import type { DeadlineHeap } from '../base/deadline-heap.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Caller } from '../identity/caller.ts';
import type { Deliveries } from '../ledger/delivery.ts';
import { delta } from './delta.ts';
import { fetchSecrets } from './fetch.ts';
import type { FetchCall } from './fetch.ts';
import type { SdsLimits } from './limits.ts';
import { createOccupancy } from './occupancy.ts';
import type { NodeInfo } from './request.ts';
import type { Admission, SecretSource } from './secret-source.ts';
import { createSendQueue } from './send-queue.ts';
import { sotw } from './sotw.ts';
import { statusOf } from './status.ts';
import { SecretStream } from './stream.ts';
import type { SdsCall, StreamParts } from './stream.ts';
import type { Subscriptions, SubscriptionState } from './subscription.ts';
import { createWatches } from './watches.ts';

export interface SdsParts {
  readonly source: SecretSource;
  readonly admission: Admission;
  readonly deliveries: Deliveries;
  readonly clock: Clock;
  readonly heap: DeadlineHeap;
  readonly random: Random;
  readonly log: Log;
  readonly limits: SdsLimits;
}

export interface SdsService {
  register(server: Server): void;
  /** Ends all streams with OK and takes no new ones. Resolves once they are closed, or when the signal aborts. */
  drain(signal: AbortSignal): Promise<void>;
  /** Ends the streams of the callers chosen, with why they may not go on, or else with OK. Returns how many. */
  endStreams(filter: (caller: Caller) => boolean): number;
  readonly streamCount: number;
}

type AnyStream = Pick<SecretStream<never, never>, 'id' | 'caller' | 'end' | 'review'>;

/** Streams looked at between two turns of the event loop. */
const perTurn = 250;

/** envoy.service.secret.v3.SecretDiscoveryService. */
export function createSdsService(given: SdsParts): SdsService {
  const { clock, heap, limits, admission, log } = given;
  const queue = createSendQueue();
  const parts: StreamParts = { ...given, queue, watches: createWatches(queue), occupancy: createOccupancy(clock, heap, limits) };
  const streams = new Map<number, AnyStream>();
  let lastId = 0;
  let draining = false;
  let onEmpty: (() => void) | undefined;
  let reviewing: IterableIterator<AnyStream> | undefined;
  let concerned: (caller: Caller) => boolean = everybody;
  const stopListening = admission.onChange(reviewAll);

  function open<Request extends { readonly node: NodeInfo | undefined }, State extends SubscriptionState>(
    call: SdsCall,
    protocol: Subscriptions<Request, State>,
  ): void {
    lastId++;
    const stream = new SecretStream(lastId, call, protocol, parts);
    streams.set(stream.id, stream);
    if (draining) stream.fail(new SignetError('OVERLOADED', 'the server is stopping'));
    stream.open(() => {
      streams.delete(stream.id);
      if (streams.size === 0) onEmpty?.();
    });
  }

  const fetch: handleUnaryCall<Buffer, Buffer> = (call, callback) => {
    fetchSecrets(call satisfies FetchCall, parts).then(
      (response) => {
        callback(null, response);
      },
      (error: unknown) => {
        log.info({ err: error }, 'FetchSecrets refused');
        callback(statusOf(error));
      },
    );
  };

  /** After a change of keys, denials or roots the streams that it concerns are judged again, a share in each turn of the loop. */
  function reviewAll(next: (caller: Caller) => boolean): void {
    const running = reviewing !== undefined;
    reviewing = streams.values();
    // What was still to be looked at for the change before is looked at with all the others.
    concerned = running ? everybody : next;
    if (!running) setImmediate(reviewSome);
  }

  function reviewSome(): void {
    for (let count = 0; reviewing && count < perTurn; count++) {
      const next = reviewing.next();
      if (next.done) reviewing = undefined;
      else if (next.value.caller && concerned(next.value.caller)) next.value.review();
    }
    if (reviewing) setImmediate(reviewSome);
  }

  return {
    register(server) {
      const handlers: Record<string, UntypedHandleCall> = {
        StreamSecrets: (call: SdsCall) => {
          open(call, sotw);
        },
        DeltaSecrets: (call: SdsCall) => {
          open(call, delta);
        },
        FetchSecrets: fetch,
      };
      server.addService(secretDiscovery, handlers);
    },
    async drain(signal) {
      draining = true;
      stopListening();
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
      for (const stream of streams.values()) stream.end('the server is stopping');
      if (streams.size > 0 && !signal.aborted) await empty;
    },
    endStreams(filter) {
      let count = 0;
      for (const stream of streams.values()) {
        if (!stream.caller || !filter(stream.caller)) continue;
        count++;
        stream.review();
        stream.end('ended by the operator');
      }
      return count;
    },
    get streamCount() {
      return streams.size;
    },
  };
}

const everybody = (): boolean => true;

const path = '/envoy.service.secret.v3.SecretDiscoveryService/';
const asIs = (bytes: Buffer): Buffer => bytes;
/** Bytes in, bytes out: requests are decoded where a bad one gets a definite code, responses are encoded once for many. */
const bytes = { requestSerialize: asIs, requestDeserialize: asIs, responseSerialize: asIs, responseDeserialize: asIs };
const streaming = { requestStream: true, responseStream: true, ...bytes };

const secretDiscovery: ServiceDefinition = {
  StreamSecrets: { path: `${path}StreamSecrets`, ...streaming },
  DeltaSecrets: { path: `${path}DeltaSecrets`, ...streaming },
  FetchSecrets: { path: `${path}FetchSecrets`, requestStream: false, responseStream: false, ...bytes },
};
