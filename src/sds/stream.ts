import type { ServerDuplexStream } from '@grpc/grpc-js';
import type { Clock, Random } from '../base/clock.ts';
import type { DeadlineHeap } from '../base/deadline-heap.ts';
import { grpcStatus, SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Caller } from '../identity/caller.ts';
import type { Deliveries, StreamInfo } from '../ledger/delivery.ts';
import { classifyNack } from '../ledger/nack.ts';
import { admit } from './admit.ts';
import type { Admitted, Admitting } from './admit.ts';
import { deliveredOf } from './delivered.ts';
import { requestCost, spend, streamEnd } from './limits.ts';
import type { Budget, SdsLimits } from './limits.ts';
import type { Occupancy } from './occupancy.ts';
import type { NodeInfo } from './request.ts';
import { deltaBody, sotwBody, withNonce } from './response.ts';
import type { Admission, SecretFeed, SecretSource } from './secret-source.ts';
import type { Sender, SendQueue } from './send-queue.ts';
import { shownBy } from './shown.ts';
import { statusOf } from './status.ts';
import { feedsOf } from './subscription.ts';
import type { Response, Settled, Subscriptions, SubscriptionState } from './subscription.ts';
import type { Watches } from './watches.ts';

export type SdsCall = ServerDuplexStream<Buffer, Buffer>;

/** What all streams share. */
export interface StreamParts {
  readonly source: SecretSource;
  readonly admission: Admission;
  readonly deliveries: Deliveries;
  readonly clock: Clock;
  readonly heap: DeadlineHeap;
  readonly random: Random;
  readonly log: Log;
  readonly limits: SdsLimits;
  readonly occupancy: Occupancy;
  readonly queue: SendQueue;
  readonly watches: Watches;
}

/** Requests taken while a response waits for the client to read; then we stop reading too. */
const maxUnread = 8;

/**
 * One stream: the shell around its subscription. A class because there are tens of thousands of them: their methods are
 * shared. At most one response is on its way; what changes meanwhile is sent in the next, as it is by then. So a client
 * that doesn't read costs the memory of one response.
 */
export class SecretStream<Request extends { readonly node: NodeInfo | undefined }, State extends SubscriptionState> implements Sender {
  readonly id: number;
  queued = false;
  caller: Caller | undefined;
  private readonly call: SdsCall;
  private readonly parts: StreamParts;
  private readonly protocol: Subscriptions<Request, State>;
  private readonly state: State;
  private readonly lookup: (name: string) => SecretFeed | undefined;
  private readonly onWritten: () => void;
  private admitting: Admitting | undefined;
  private readonly openedAt: number;
  private readonly budget: Budget;
  private info: StreamInfo | undefined;
  private watched: ReadonlySet<SecretFeed> = new Set();
  private revision = 0;
  private leave: (() => void) | undefined;
  private cancelEnd: (() => void) | undefined;
  private writing = false;
  private unread = 0;
  private ended = false;
  private reason = 'closed by the client';

  constructor(id: number, call: SdsCall, protocol: Subscriptions<Request, State>, parts: StreamParts) {
    this.id = id;
    this.call = call;
    this.parts = parts;
    this.protocol = protocol;
    this.state = protocol.start(parts.limits);
    this.openedAt = parts.clock.now();
    this.budget = { tokens: parts.limits.requestBurst, at: this.openedAt };
    this.lookup = (name) => (this.caller ? parts.source.lookup(this.caller, name) : undefined);
    this.onWritten = () => {
      this.written();
    };
  }

  /** Nothing is read before the caller is known: its requests wait in the transport's window. `closed` is called once. */
  open(closed: () => void): void {
    this.call.once('close', () => {
      this.release();
      this.leave?.();
      closed();
    });
    if (this.ended) return;
    try {
      const outcome = admit(shownBy(this.call), this.parts);
      if ('caller' in outcome) this.start(outcome);
      else {
        this.admitting = outcome;
        outcome.admitted.then(
          (admitted) => {
            this.start(admitted);
            // What changed while the proof was waited for passed this stream by.
            this.review();
          },
          (error: unknown) => {
            this.fail(error);
          },
        );
      }
    } catch (error) {
      this.fail(error);
    }
  }

  private start({ caller, leave }: Admitted): void {
    if (this.ended) {
      leave();
      return;
    }
    this.leave = leave;
    this.admitting = undefined;
    this.caller = caller;
    const { clock, heap, limits, random } = this.parts;
    this.cancelEnd = heap.at(streamEnd(clock.now(), caller.credentialEnds, limits.maxStreamAgeMs, random), () => {
      this.end('end of life');
    });
    this.call.on('data', (bytes: Buffer) => {
      this.take(bytes);
    });
    // A half-close ends the stream with OK.
    this.call.once('end', () => {
      this.end('half-closed by the client');
    });
  }

  /** Ends with OK, after what was already written. */
  end(reason: string): void {
    if (this.ended) return;
    this.reason = reason;
    this.release();
    this.call.end();
  }

  fail(error: unknown): void {
    if (this.ended) return;
    const failure = SignetError.from(error);
    const fields = { err: failure, stream: this.id, spiffeId: this.caller?.spiffeId, instance: this.caller?.instance };
    if (grpcStatus(failure.code) === grpcStatus('INTERNAL')) this.parts.log.error(fields, 'SDS stream failed');
    else this.parts.log.info(fields, 'SDS stream refused');
    this.reason = failure.code;
    this.release();
    // grpc-js takes the status from an error event, and ends the stream by it.
    this.call.emit('error', statusOf(failure));
  }

  /** Judges the caller again; ends the stream if it may not go on. */
  review(): void {
    if (this.ended || !this.caller) return;
    const refusal = this.parts.admission.refusal(this.caller);
    if (refusal) this.fail(refusal);
  }

  flush(): void {
    if (this.ended || this.writing || !this.info || !this.caller) return;
    try {
      const response = this.protocol.next(this.state);
      if (!response) return;
      if (response.secrets.some(({ published }) => published.type === 'identity')) {
        const refusal = this.refusalNow(this.caller);
        if (refusal) throw refusal;
      }
      this.writing = true;
      this.call.write(this.encode(response), this.onWritten);
      for (const { feed, published } of response.secrets) this.parts.deliveries.sent(this.info, deliveredOf(feed, published));
    } catch (error) {
      this.fail(error);
    }
  }

  private refusalNow(caller: Caller): Error | undefined {
    if (caller.credentialEnds <= this.parts.clock.now()) return new SignetError('UNAUTHENTICATED', 'the credential has ended');
    return this.parts.admission.refusal(caller);
  }

  private encode({ nonce, version, secrets, removed }: Response): Buffer {
    return withNonce(this.protocol.api === 'sotw' ? sotwBody(version, secrets) : deltaBody(version, secrets, removed), nonce);
  }

  private take(bytes: Buffer): void {
    if (this.ended || !this.caller) return;
    try {
      const request = this.protocol.decode(bytes);
      const { limits, clock } = this.parts;
      if (!spend(this.budget, requestCost(this.protocol.weight(request)), limits.requestsPerSecond, limits.requestBurst, clock.now()))
        throw new SignetError('RATE_LIMITED', 'too many requests on this stream');
      const info = (this.info ??= this.introduce(this.caller, request.node));
      for (const settled of this.protocol.request(this.state, request, this.lookup)) this.report(info, settled);
      if (this.state.revision !== this.revision) this.watch();
      this.flush();
      if (this.writing && ++this.unread >= maxUnread) this.call.pause();
    } catch (error) {
      this.fail(error);
    }
  }

  private introduce(caller: Caller, node: NodeInfo | undefined): StreamInfo {
    const info: StreamInfo = {
      id: this.id,
      caller,
      api: this.protocol.api,
      openedAt: this.openedAt,
      nodeId: node?.id ?? '',
      envoyVersion: node?.envoyVersion ?? '',
    };
    this.parts.deliveries.opened(info);
    return info;
  }

  /** Identities first: a refused identity explains the refusal of the trust that came with it. */
  private report(info: StreamInfo, { secrets, error }: Settled): void {
    const nack = error && classifyNack(error);
    const { deliveries, log } = this.parts;
    for (const type of ['identity', 'validation'] as const) {
      for (const { feed, published } of secrets) {
        if (published.type !== type) continue;
        const delivered = deliveredOf(feed, published);
        if (nack) {
          log.warn(
            { stream: info.id, spiffeId: info.caller.spiffeId, instance: info.caller.instance, ...delivered, nack },
            'secret refused',
          );
          deliveries.rejected(info, delivered, nack);
        } else deliveries.acknowledged(info, delivered);
      }
    }
  }

  private watch(): void {
    this.revision = this.state.revision;
    const feeds = feedsOf(this.state);
    for (const feed of feeds) if (!this.watched.has(feed)) this.parts.watches.add(feed, this);
    for (const feed of this.watched) if (!feeds.has(feed)) this.parts.watches.remove(feed, this);
    this.watched = feeds;
  }

  private written(): void {
    this.writing = false;
    this.unread = 0;
    if (this.ended) return;
    if (this.call.isPaused()) this.call.resume();
    this.flush();
  }

  /** From here on nothing more is sent, and nothing that comes is looked at. */
  private release(): void {
    if (this.ended) return;
    this.ended = true;
    this.admitting?.cancel();
    this.cancelEnd?.();
    for (const feed of this.watched) this.parts.watches.remove(feed, this);
    this.watched = new Set();
    if (this.info) this.parts.deliveries.closed(this.info, this.reason);
  }
}
