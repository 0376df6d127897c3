import { Agent, request } from 'undici';
import { deadlineSignal } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';

export interface JsonRequest {
  readonly method: 'GET' | 'POST';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
}

export interface JsonAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Undefined if what came is not JSON. */
  readonly body: unknown;
}

export interface JsonHttp {
  /** One try. Throws AUTHORITY_UNAVAILABLE if nothing that can be read came back, or CANCELLED or DEADLINE_EXCEEDED with the signal's reason. */
  send(request: JsonRequest, signal: AbortSignal): Promise<JsonAnswer>;
  close(): Promise<void>;
}

export interface JsonHttpOptions {
  /** For messages: whose service this is. */
  readonly service: string;
  readonly timeoutMs?: number;
  /** Of an answer, in bytes. */
  readonly limit?: number;
}

/** JSON over HTTPS to a CA or a custodian: connections kept, answers bounded, no redirect followed, every call with a deadline. */
export function createJsonHttp({ service, timeoutMs = 30_000, limit = 1024 * 1024 }: JsonHttpOptions): JsonHttp {
  const agent = new Agent({
    connect: { timeout: timeoutMs, minVersion: 'TLSv1.2' },
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    maxResponseSize: limit,
    pipelining: 1,
  });

  return {
    async send({ method, url, headers, body }, parent) {
      if (parent.aborted) throw SignetError.from(parent.reason);
      const cancelled = (): boolean => parent.aborted;
      const signal = deadlineSignal(timeoutMs, parent);
      try {
        const answer = await request(url, { dispatcher: agent, method, headers, signal, ...(body === undefined ? {} : { body }) });
        return { status: answer.statusCode, headers: answer.headers, body: parseJson(await answer.body.text()) };
      } catch (error) {
        if (cancelled()) throw SignetError.from(parent.reason);
        // The reason may name addresses inside the network: for the log alone.
        throw new SignetError('AUTHORITY_UNAVAILABLE', `${service} can't be reached, or does not answer`, { cause: error });
      }
    },
    close: () => agent.destroy(),
  };
}

/** RFC 9110 §10.2.3: seconds or a date. Bounded: nobody makes us wait for an hour. */
export function retryAfterMs(headers: JsonAnswer['headers'], now: number): number | undefined {
  const text = headers['retry-after'];
  if (typeof text !== 'string') return undefined;
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now;
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), 300_000) : undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
