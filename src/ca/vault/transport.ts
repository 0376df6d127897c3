import { Agent, request as send } from 'undici';
import { z } from 'zod';
import type { Clock } from '../../base/clock.ts';
import { abortable } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import { readSmallFile } from '../../base/small-file.ts';
import type { ConnectionSettings } from './settings.ts';
import { retryAfter, vaultFault } from './vault-fault.ts';

export interface VaultRequest {
  readonly method: 'GET' | 'POST';
  /** Below /v1/, of parts that need no escaping. */
  readonly path: string;
  readonly body?: Readonly<Record<string, unknown>>;
  readonly token?: string;
  /** Beside the token: what must not be in an error, whatever Vault says. */
  readonly secrets?: readonly string[];
}

/** Vault's HTTP API: JSON to and fro, over one pool of connections. */
export interface Transport {
  /**
   * What was answered, checked. One try, as long as the signal lets it. Throws AUTHORITY_UNAVAILABLE, AUTHORITY_THROTTLED,
   * AUTHORITY_REFUSED or AUTHORITY_MISCONFIGURED.
   */
  send<T>(request: VaultRequest, schema: z.ZodType<T>, signal: AbortSignal): Promise<T>;
  /** Reads CA and client certificate again; new connections use them. Throws AUTHORITY_MISCONFIGURED naming the file. */
  reload(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

export interface TransportOptions {
  /** How messages name this Vault. */
  readonly label: string;
  readonly connection: ConnectionSettings;
  readonly clock: Clock;
}

/** A certificate has 1 to 2 KB of base64; a chain of eight and its repetitions have 40. */
const longestAnswer = 256 * 1024;
const longestFile = 256 * 1024;
const connections = 64;
const connectMs = 5000;
/** Bounds what the caller's signal bounds too, should it be a generous one. */
const answerMs = 60_000;

const refusalSchema = z.object({ errors: z.array(z.string().max(10_000)).max(20) });

export function createTransport({ label, connection, clock }: TransportOptions): Transport {
  const { address, caFile, namespace, login } = connection;
  const files = [caFile, ...(login.type === 'certificate' ? [login.certificate, login.key] : [])];
  let agent: Agent | undefined;
  let loaded: readonly (Buffer | undefined)[] = [];

  async function load(signal: AbortSignal): Promise<Agent> {
    const read = await abortable(Promise.all(files.map(async (file) => (file === undefined ? undefined : readNamed(label, file)))), signal);
    if (agent && read.every((content, i) => content === loaded[i] || (content && loaded[i]?.equals(content) === true))) return agent;
    const [ca, cert, key] = read;
    const before = agent;
    agent = new Agent({
      connections,
      connect: { timeout: connectMs, minVersion: 'TLSv1.2', ...(ca ? { ca } : {}), ...(cert && key ? { cert, key } : {}) },
      headersTimeout: answerMs,
      bodyTimeout: answerMs,
      maxResponseSize: longestAnswer,
    });
    loaded = read;
    // Calls that are under way on it come to their end.
    before?.close().catch(() => undefined);
    return agent;
  }

  async function exchange(
    request: VaultRequest,
    signal: AbortSignal,
  ): Promise<{ status: number; text: string; again: string | undefined }> {
    const { method, path, body, token } = request;
    const {
      statusCode,
      headers,
      body: answer,
    } = await send(`${address}/v1/${path}`, {
      dispatcher: agent ?? (await load(signal)),
      method,
      headers: {
        'x-vault-request': 'true',
        ...(token === undefined ? {} : { 'x-vault-token': token }),
        ...(namespace === undefined ? {} : { 'x-vault-namespace': namespace }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal,
    });
    const again = headers['retry-after'];
    return { status: statusCode, text: await answer.text(), again: typeof again === 'string' ? again : undefined };
  }

  return {
    async reload(signal) {
      await load(signal);
    },
    async send(request, schema, signal) {
      if (signal.aborted) throw SignetError.from(signal.reason);
      let answer;
      try {
        answer = await abortable(exchange(request, signal), signal);
      } catch (error) {
        throw connectionFault(label, error);
      }
      const { status, text, again } = answer;
      if (status < 200 || status >= 300) {
        const secrets = [...(request.secrets ?? []), ...(request.token === undefined ? [] : [request.token])];
        const reasons = refusalSchema.safeParse(parseJson(text)).data?.errors ?? [];
        throw vaultFault(
          label,
          `${request.method} ${request.path}`,
          { status, reasons, retryAfterMs: retryAfter(again, clock.now()) },
          secrets,
        );
      }
      const parsed = schema.safeParse(text === '' ? {} : parseJson(text));
      if (parsed.success) return parsed.data;
      // What it answered may hold a token; which fields were wrong doesn't.
      const where = parsed.error.issues.map(({ path }) => path.join('.')).slice(0, 5);
      throw new SignetError(
        'AUTHORITY_UNAVAILABLE',
        `${label}: ${request.method} ${request.path} answered with something else than Vault's API (${where.join(', ') || 'no JSON'})`,
      );
    },
    async close() {
      await agent?.destroy();
    },
  };
}

async function readNamed(label: string, file: string): Promise<Buffer> {
  try {
    return await readSmallFile(file, longestFile);
  } catch (error) {
    throw new SignetError('AUTHORITY_MISCONFIGURED', `${label}: ${file} can't be read`, { cause: error });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** OpenSSL's verdicts on a peer's certificate as Node names them, and on our own files. */
const tlsCodes =
  /^(?:ERR_TLS_|ERR_OSSL_|ERR_SSL_|CERT_|SELF_SIGNED_|DEPTH_ZERO_|UNABLE_TO_(?:VERIFY|GET_ISSUER)|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE)/;

function connectionFault(label: string, error: unknown): SignetError {
  if (error instanceof SignetError) return error;
  const code = codeOf(error);
  if (tlsCodes.test(code)) {
    return new SignetError(
      'AUTHORITY_MISCONFIGURED',
      `${label}: no TLS connection (${code}); caFile must hold the CA of its certificate, and address a name that is in it`,
      { cause: error },
    );
  }
  const fault = SignetError.from(error);
  if (fault.code === 'CANCELLED' || fault.code === 'DEADLINE_EXCEEDED') return fault;
  return new SignetError('AUTHORITY_UNAVAILABLE', `${label}: can't be reached (${code})`, { cause: error });
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'connection failed';
}
