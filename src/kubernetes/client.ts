import type { Readable } from 'node:stream';
import { Agent, request } from 'undici';
import type { z } from 'zod';
import { abortable, deadlineSignal } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import type { ApiAnswer } from './answer.ts';
import { failure, failureFrom, parseJson } from './answer.ts';
import type { ClusterAccess, Shown } from './cluster-access.ts';
import { readShown } from './cluster-access.ts';

export interface ApiCall<T> {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** `/api/v1/namespaces/x/pods`; names in it through `segment`. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>> | undefined;
  readonly body?: object | undefined;
  /** Of the body; PATCH says by it which kind of patch it is. */
  readonly contentType?: string | undefined;
  /** What of the answer is used. */
  readonly answer: z.ZodType<T>;
  /** Bytes; default 1 MiB. */
  readonly longestAnswer?: number | undefined;
}

/** A stream of lines that a watch answers with. Ends when the server ends it; throws when the connection does. */
export type ApiLines = AsyncIterable<Buffer>;

/** The Kubernetes API of one cluster, as much of it as Signet needs. */
export interface KubernetesClient {
  /** For logs. */
  readonly server: string;
  /** One try. Rejects only when the signal aborts, at once. */
  ask<T>(call: ApiCall<T>, signal: AbortSignal): Promise<ApiAnswer<T>>;
  /** GET of what goes on and on; the deadline is for its beginning. The signal ends it. */
  open(call: Pick<ApiCall<unknown>, 'path' | 'query'>, signal: AbortSignal): Promise<ApiAnswer<ApiLines>>;
  close(): Promise<void>;
}

export interface KubernetesClientOptions {
  /** For one call, from reading our credential to the end of the answer. */
  readonly timeoutMs?: number | undefined;
  /** How long an open stream may be silent. */
  readonly silenceMs?: number | undefined;
}

const defaultTimeoutMs = 10_000;
const defaultSilenceMs = 150_000;
const defaultLongestAnswer = 1024 * 1024;
const longestFailure = 16 * 1024;
/** Watches hold one each. */
const mostConnections = 32;

/** A name as a segment of a path, whatever is in it. */
export function segment(name: string): string {
  if (name === '' || name === '.' || name === '..') throw new SignetError('INVALID_ARGUMENT', 'an empty name, "." and ".." name nothing');
  return encodeURIComponent(name);
}

export function createKubernetesClient(access: ClusterAccess, options: KubernetesClientOptions = {}): KubernetesClient {
  const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
  const server = access.server.href.replace(/\/$/, '');
  let connected: { readonly agent: Agent; readonly by: Shown } | undefined;

  /** Connections are kept while what they were made with is unchanged; a token is no part of them. */
  function agentFor(shown: Shown): Agent {
    const { by } = connected ?? {};
    if (connected && by?.ca === shown.ca && by?.certificate === shown.certificate && by?.key === shown.key) return connected.agent;
    connected?.agent.close().catch(() => undefined); // What runs on it ends in peace.
    const agent = new Agent({
      connect: {
        timeout: timeoutMs,
        minVersion: 'TLSv1.2',
        ...(shown.ca === undefined ? {} : { ca: shown.ca }),
        ...(shown.certificate === undefined ? {} : { cert: shown.certificate }),
        ...(shown.key === undefined ? {} : { key: shown.key }),
        ...(access.serverName === undefined ? {} : { servername: access.serverName }),
      },
      connections: mostConnections,
      pipelining: 1,
      headersTimeout: timeoutMs,
      bodyTimeout: options.silenceMs ?? defaultSilenceMs,
    });
    connected = { agent, by: shown };
    return agent;
  }

  /** The head of an answer. request() follows no redirect: our token goes to the configured server alone. */
  async function send(call: Omit<ApiCall<unknown>, 'answer' | 'longestAnswer'>, signal: AbortSignal) {
    const shown = await abortable(readShown(access), signal);
    const query = call.query ? `?${new URLSearchParams(call.query).toString()}` : '';
    const headers: Record<string, string> = { accept: 'application/json', 'accept-encoding': 'identity', 'user-agent': 'signet' };
    if (shown.token !== undefined) headers['authorization'] = `Bearer ${shown.token}`;
    if (call.body) headers['content-type'] = call.contentType ?? 'application/json';
    return request(`${server}${call.path}${query}`, {
      dispatcher: agentFor(shown),
      method: call.method,
      headers,
      signal,
      ...(call.body ? { body: JSON.stringify(call.body) } : {}),
    });
  }

  function described(call: Pick<ApiCall<unknown>, 'method' | 'path'>): string {
    return `${call.method} ${server}${call.path}`;
  }

  function couldNot(
    call: Pick<ApiCall<unknown>, 'method' | 'path'>,
    error: unknown,
  ): { readonly ok: false; readonly failure: ReturnType<typeof failure> } {
    return { ok: false, failure: failure('away', `${described(call)}: ${whyNot(error, timeoutMs)}`, error) };
  }

  return {
    server,
    async ask<T>(call: ApiCall<T>, signal: AbortSignal): Promise<ApiAnswer<T>> {
      const bounded = deadlineSignal(timeoutMs, signal);
      try {
        const { statusCode, headers, body } = await abortable(send(call, bounded), bounded);
        const good = statusCode >= 200 && statusCode < 300;
        const text = await abortable(readAll(body, good ? (call.longestAnswer ?? defaultLongestAnswer) : longestFailure), bounded);
        if (!good) return { ok: false, failure: failureFrom(described(call), statusCode, first(headers['retry-after']), text ?? '') };
        if (text === undefined) return { ok: false, failure: failure('malformed', `${described(call)}: the answer is too large`) };
        const parsed = call.answer.safeParse(parseJson(text));
        if (parsed.success) return { ok: true, value: parsed.data };
        const where = parsed.error.issues.map((issue) => issue.path.join('.')).slice(0, 5);
        return {
          ok: false,
          failure: failure('malformed', `${described(call)}: the answer has another form than it should (${where.join(', ')})`),
        };
      } catch (error) {
        if (signal.aborted) throw SignetError.from(signal.reason);
        return couldNot(call, error);
      }
    },
    async open(target, signal) {
      const call = { ...target, method: 'GET' } as const;
      const started = new AbortController();
      const late = setTimeout(() => {
        started.abort(new SignetError('DEADLINE_EXCEEDED', 'the watch did not begin'));
      }, timeoutMs);
      const either = AbortSignal.any([signal, started.signal]);
      try {
        const { statusCode, headers, body } = await abortable(send(call, either), either);
        if (statusCode === 200) return { ok: true, value: linesOf(body) };
        const text = await abortable(readAll(body, longestFailure), either);
        return { ok: false, failure: failureFrom(described(call), statusCode, first(headers['retry-after']), text ?? '') };
      } catch (error) {
        if (signal.aborted) throw SignetError.from(signal.reason);
        return couldNot(call, error);
      } finally {
        clearTimeout(late);
      }
    },
    async close() {
      await connected?.agent.destroy();
    },
  };
}

function whyNot(error: unknown, timeoutMs: number): string {
  if (SignetError.from(error).code === 'DEADLINE_EXCEEDED') return `no answer within ${timeoutMs} ms`;
  if (error instanceof SignetError) return error.message;
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? ` (${error.code})` : '';
  return `no answer${code}`;
}

function first(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header;
}

/** Undefined for what is longer than that. */
async function readAll(body: Readable, limit: number): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > limit) return undefined; // Leaving the loop destroys the body, and its connection with it.
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** etcd takes objects of 1.5 MiB; an event has one, in JSON. */
const longestLine = 4 * 1024 * 1024;

async function* linesOf(body: Readable): AsyncGenerator<Buffer> {
  let rest: Buffer[] = [];
  let length = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    let from = 0;
    for (let end = chunk.indexOf(0x0a); end !== -1; end = chunk.indexOf(0x0a, from)) {
      yield Buffer.concat([...rest, chunk.subarray(from, end)]);
      [rest, length, from] = [[], 0, end + 1];
    }
    rest.push(chunk.subarray(from));
    length += chunk.length - from;
    if (length > longestLine) throw new SignetError('TOO_LARGE', `a line of a watch has more than ${longestLine} bytes`);
  }
}
