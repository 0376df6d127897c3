import { EventEmitter } from 'node:events';
import { Client, credentials, Metadata, status } from '@grpc/grpc-js';
import type { ClientReadableStream, ServiceError } from '@grpc/grpc-js';
import { backoffMs } from '../base/backoff.ts';
import { abortable, deadlineSignal } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import { endpointPath } from './endpoint.ts';
import { readX509Context } from './x509-context.ts';
import type { X509Context, X509Svid } from './x509-context.ts';

export interface X509SourceOptions {
  /** Of the Workload API: a path, or `unix:///path`. What SPIFFE_ENDPOINT_SOCKET says unless given. */
  readonly socketPath?: string;
  /** How long `open` waits for a first identity; 30 s unless given. */
  readonly timeoutMs?: number;
  /** Gives `open` up. Once the source is open, `close` ends it. */
  readonly signal?: AbortSignal;
}

interface Events {
  /** Certificates, keys or bundles are new. */
  update: [context: X509Context];
  /** The Workload API is away, or sent what can't be used. What was there before stays; it is tried again. */
  warning: [error: Error];
  close: [];
}

const backoff = { baseMs: 200, maxMs: 10_000 };
const defaultTimeoutMs = 30_000;

/**
 * The X.509 identity of this workload, kept fresh by the Workload API. It reconnects by itself, with back-off, and what it
 * got last stays until its replacement is verified. It keeps the process alive until it is closed.
 */
export class X509Source extends EventEmitter<Events> {
  readonly #path: string;
  #context: X509Context | undefined;
  #client: Client | undefined;
  #call: ClientReadableStream<Buffer> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  #closed = false;

  private constructor(path: string) {
    super();
    // Every server, and every gRPC channel, listens.
    this.setMaxListeners(0);
    this.#path = path;
  }

  /**
   * Resolves once there is an identity. Throws a SignetError: CONFIG_INVALID if no socket is known, DEADLINE_EXCEEDED with
   * the last failure as its cause, or CANCELLED.
   */
  static async open({ socketPath, timeoutMs = defaultTimeoutMs, signal }: X509SourceOptions = {}): Promise<X509Source> {
    const source = new X509Source(endpointPath(socketPath, process.env));
    let last: Error | undefined;
    const remember = (error: Error): void => {
      last = error;
    };
    source.on('warning', remember);
    const first = new Promise<undefined>((resolve) => {
      source.once('update', () => {
        resolve(undefined);
      });
    });
    source.#connect();
    try {
      await abortable(first, deadlineSignal(timeoutMs, signal));
      return source;
    } catch (error) {
      source.close();
      const failure = SignetError.from(error);
      if (failure.code !== 'DEADLINE_EXCEEDED') throw failure;
      throw new SignetError('DEADLINE_EXCEEDED', `no identity from the Workload API at ${source.#path}: is its agent running?`, {
        cause: last ?? failure,
      });
    } finally {
      source.off('warning', remember);
    }
  }

  /** What the Workload API said last. */
  get context(): X509Context {
    if (!this.#context) throw new SignetError('INTERNAL', 'a source that was never opened');
    return this.#context;
  }

  /** The default identity. */
  get svid(): X509Svid {
    return this.context.svids[0];
  }

  /** CA certificates (DER) of a trust domain, `spiffe://td`; undefined for one that we don't trust. */
  bundle(trustDomain: string): readonly Buffer[] | undefined {
    return this.context.bundles.get(trustDomain);
  }

  /** Ends the connection. What was there last can still be read. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#disconnect();
    this.emit('close');
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #connect(): void {
    // A client for each attempt: it connects at once, where one that has failed waits by a clock of its own.
    const client = new Client(`unix:${this.#path}`, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.default_authority': 'localhost',
    });
    const metadata = new Metadata();
    metadata.set('workload.spiffe.io', 'true');
    const call = client.makeServerStreamRequest(method, asIs, asIs, Buffer.alloc(0), metadata);
    this.#client = client;
    this.#call = call;
    call.on('data', (bytes: Buffer) => {
      if (call === this.#call) this.#take(bytes);
    });
    call.once('error', (error: ServiceError) => {
      this.#retry(call, error);
    });
    call.once('end', () => {
      this.#retry(call, undefined);
    });
  }

  #take(bytes: Buffer): void {
    try {
      this.#context = readX509Context(bytes, Date.now());
    } catch (error) {
      this.emit('warning', SignetError.from(error));
      return;
    }
    this.#failures = 0;
    this.emit('update', this.#context);
  }

  #retry(call: ClientReadableStream<Buffer>, error: ServiceError | undefined): void {
    // The client's own cancelling ends a call too, and an error is followed by an end.
    if (this.#closed || call !== this.#call) return;
    this.#disconnect();
    const why = error ? `${status[error.code]}: ${error.details}` : 'it ended the stream';
    this.#timer = setTimeout(
      () => {
        this.#connect();
      },
      backoffMs(this.#failures++, backoff, Math.random),
    );
    this.emit(
      'warning',
      new SignetError('AUTHORITY_UNAVAILABLE', `the Workload API at ${this.#path} is not to be had: ${why}`, { cause: error }),
    );
  }

  #disconnect(): void {
    const call = this.#call;
    this.#call = undefined;
    call?.on('error', () => undefined);
    call?.cancel();
    this.#client?.close();
  }
}

const method = '/SpiffeWorkloadAPI/FetchX509SVID';
const asIs = (bytes: Buffer): Buffer => bytes;
