import { Agent, request } from 'undici';
import type { z } from 'zod';
import { abortable } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import { harmless } from '../../base/harmless.ts';
import { sha256Hex } from '../../x509/keys.ts';
import { certificatesFromPem, pemEncode } from '../../x509/pem.ts';
import { rootResponse } from './messages.ts';

/** step-ca's HTTP API, spoken only to whoever proves to be it. */
export interface StepClient {
  /** Throws AUTHORITY_UNAVAILABLE, AUTHORITY_THROTTLED, AUTHORITY_REFUSED, AUTHORITY_MISCONFIGURED or CANCELLED. */
  call<T>(path: string, schema: z.ZodType<T>, options: { readonly signal: AbortSignal; readonly body?: object }): Promise<T>;
  /** More roots by which its TLS certificate is believed from now on, beside the pinned ones. */
  trust(roots: readonly Buffer[]): void;
  close(): Promise<void>;
}

const largestAnswer = 1024 * 1024;
const connectMs = 10_000;
const answerMs = 30_000;
const longestReason = 200;
const longestRetryAfterMs = 300_000;

export function createStepClient(options: {
  readonly name: string;
  readonly url: string;
  readonly rootFingerprints: readonly string[];
}): StepClient {
  const { name, url, rootFingerprints } = options;
  let more: readonly Buffer[] = [];
  let opening: Promise<Agent> | undefined;
  let closed = false;

  function agentFor(tls: { readonly ca: readonly string[] } | 'unverified'): Agent {
    return new Agent({
      connect: {
        timeout: connectMs,
        minVersion: 'TLSv1.2',
        ...(tls === 'unverified' ? { rejectUnauthorized: false } : { ca: [...tls.ca] }),
      },
      headersTimeout: answerMs,
      bodyTimeout: answerMs,
      maxResponseSize: largestAnswer,
    });
  }

  /**
   * The pinned roots, as step-ca's own clients get theirs: from whoever answers, and believed for their hash alone. The
   * connection that brought them is used for nothing else.
   */
  async function pinnedRoots(signal: AbortSignal): Promise<string[]> {
    const bootstrap = agentFor('unverified');
    try {
      const found: string[] = [];
      for (const fingerprint of rootFingerprints) {
        const { status, body } = await exchange(bootstrap, 'GET', `/root/${fingerprint}`, signal, undefined);
        const answer = rootResponse.safeParse(body);
        if (status !== 200 || !answer.success) continue;
        const [root] = certificatesFromPem(answer.data.ca);
        if (root && sha256Hex(root) === fingerprint) found.push(pemEncode('CERTIFICATE', root));
      }
      return found;
    } finally {
      await bootstrap.destroy();
    }
  }

  async function verified(signal: AbortSignal): Promise<Agent> {
    const ca = [...(await pinnedRoots(signal)), ...more.map((der) => pemEncode('CERTIFICATE', der))];
    if (ca.length === 0)
      throw new SignetError('AUTHORITY_MISCONFIGURED', `${name}: ${url} has no root with any of the configured rootFingerprints`);
    if (closed) throw new SignetError('CANCELLED', `${name} is closed`);
    return agentFor({ ca });
  }

  /** One for all calls; it isn't tied to the signal of the one that happened to be first. */
  function agent(): Promise<Agent> {
    if (opening) return opening;
    const begun = verified(AbortSignal.timeout(answerMs));
    opening = begun;
    begun.catch(() => {
      if (opening === begun) opening = undefined;
    });
    return begun;
  }

  async function exchange(dispatcher: Agent, method: 'GET' | 'POST', path: string, signal: AbortSignal, body: object | undefined) {
    try {
      const answer = await request(`${url}${path}`, {
        dispatcher,
        method,
        signal,
        headers: { accept: 'application/json', ...(body ? { 'content-type': 'application/json' } : {}) },
        ...(body ? { body: JSON.stringify(body) } : {}),
      });
      return { status: answer.statusCode, headers: answer.headers, body: parseJson(await answer.body.text()) };
    } catch (error) {
      if (signal.aborted) throw SignetError.from(signal.reason);
      throw new SignetError('AUTHORITY_UNAVAILABLE', `${name}: ${unreachable(url, error)}`, { cause: error });
    }
  }

  return {
    async call(path, schema, { signal, body }) {
      const dispatcher = await abortable(agent(), signal);
      const answer = await abortable(exchange(dispatcher, body ? 'POST' : 'GET', path, signal, body), signal);
      if (answer.status < 200 || answer.status > 299) throw refusal(name, answer.status, answer.body, answer.headers['retry-after']);
      const parsed = schema.safeParse(answer.body);
      if (parsed.success) return parsed.data;
      throw new SignetError('AUTHORITY_UNAVAILABLE', `${name}: what answers at ${url}${path} does not speak as step-ca does`);
    },
    trust(roots) {
      more = [...roots];
      const before = opening;
      opening = undefined;
      // What is under way ends in peace.
      before?.then((old) => old.close()).catch(() => undefined);
    },
    async close() {
      closed = true;
      await opening?.then((last) => last.destroy()).catch(() => undefined);
    },
  };
}

/** What an HTTP status of step-ca means for us. Its own words are for the operator, cut short. */
function refusal(name: string, status: number, body: unknown, retryAfter: unknown): SignetError {
  const said = reasonOf(body);
  const text = `${name}: step-ca answered ${String(status)}${said === '' ? '' : ` (${said})`}`;
  if (status === 429) {
    const seconds = typeof retryAfter === 'string' && /^\d{1,6}$/.test(retryAfter) ? Number(retryAfter) : undefined;
    return new SignetError(
      'AUTHORITY_THROTTLED',
      text,
      seconds === undefined ? {} : { retryAfterMs: Math.min(seconds * 1000, longestRetryAfterMs) },
    );
  }
  if (status >= 500) return new SignetError('AUTHORITY_UNAVAILABLE', text);
  if (status === 401) return new SignetError('AUTHORITY_REFUSED', `${text}: check provisioner, keyFile and both clocks`);
  if (status === 400 || status === 403) return new SignetError('AUTHORITY_REFUSED', text);
  return new SignetError('AUTHORITY_MISCONFIGURED', `${text}: check url`);
}

function reasonOf(body: unknown): string {
  const message = typeof body === 'object' && body !== null && 'message' in body ? body.message : undefined;
  return typeof message === 'string' ? harmless(message.slice(0, longestReason)) : '';
}

function unreachable(url: string, error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (/CERT|ALTNAME|SIGNED|ISSUER|VERIFY/.test(code))
    return `what answers at ${url} is not the step-ca that was meant (${code}): check url and rootFingerprints`;
  return `step-ca does not answer at ${url}${code === '' ? '' : ` (${code})`}`;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
