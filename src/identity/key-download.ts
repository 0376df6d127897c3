import { Agent, request } from 'undici';
import { z } from 'zod';
import { abortable, deadlineSignal } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import { checkKeyUrl } from './key-location.ts';
import { readSmallFile } from '../base/small-file.ts';

export interface Download {
  /** Exactly what discovery's `issuer` must say. */
  readonly issuer: string;
  readonly caFile: string | undefined;
  readonly tokenFile: string | undefined;
  /** For everything together, files included. */
  readonly timeoutMs: number;
  /** Of one document, in bytes. */
  readonly limit: number;
}

const longestCaFile = 1024 * 1024;
const longestBearer = 16_384;
const discoverySchema = z.object({ issuer: z.string(), jwks_uri: z.string() });

/** The JWK set at `url`. Errors say what happened, for the operator's log; they hold no bearer and no document. */
export async function downloadKeySet(url: URL, download: Download, signal: AbortSignal): Promise<string> {
  return withAgent(download, signal, (get) => get(url));
}

/**
 * The JWK set that an OpenID Connect discovery document points to. Its `issuer` must be the configured one (Discovery
 * §4.3), or whoever serves the document could stand in for another issuer.
 */
export async function discoverKeySet(url: URL, download: Download, signal: AbortSignal): Promise<string> {
  return withAgent(download, signal, async (get) => {
    const document = discoverySchema.safeParse(parseJson(await get(url)));
    if (!document.success) throw new SignetError('INVALID_ARGUMENT', `${url.href} has no discovery document with "issuer" and "jwks_uri"`);
    if (document.data.issuer !== download.issuer)
      throw new SignetError('INVALID_ARGUMENT', `the discovery document at ${url.href} is of another issuer`);
    const keys = checkKeyUrl(document.data.jwks_uri);
    if (typeof keys === 'string') throw new SignetError('INVALID_ARGUMENT', `"jwks_uri" in ${url.href}: ${keys}`);
    // The document names the place: our bearer goes nowhere but to whom it was meant for. That is the same origin, or
    // whoever has a certificate of the CA that was configured for this issuer: a Kubernetes API server names its keys by
    // an address of its own and gives them to nobody without a token.
    return get(keys, keys.origin === url.origin || (download.caFile !== undefined && keys.protocol === 'https:'));
  });
}

type Get = (url: URL, withBearer?: boolean) => Promise<string>;

/** An agent for one refresh: CA and token are read anew each time, and a refresh is too rare to keep a connection for. */
async function withAgent(download: Download, parent: AbortSignal, work: (get: Get) => Promise<string>): Promise<string> {
  const signal = deadlineSignal(download.timeoutMs, parent);
  const ca = download.caFile === undefined ? undefined : await abortable(readSmallFile(download.caFile, longestCaFile), signal);
  const bearer =
    download.tokenFile === undefined ? undefined : readBearer(await abortable(readSmallFile(download.tokenFile, longestBearer), signal));
  const agent = new Agent({
    connect: { timeout: download.timeoutMs, minVersion: 'TLSv1.2', ...(ca ? { ca } : {}) },
    maxResponseSize: download.limit,
    headersTimeout: download.timeoutMs,
    bodyTimeout: download.timeoutMs,
    pipelining: 0,
  });
  try {
    return await abortable(
      work((url, withBearer = true) => getText(agent, url, withBearer ? bearer : undefined, download.limit, signal)),
      signal,
    );
  } finally {
    await agent.destroy();
  }
}

async function getText(agent: Agent, url: URL, bearer: string | undefined, limit: number, signal: AbortSignal): Promise<string> {
  const headers: Record<string, string> = { accept: 'application/jwk-set+json, application/json', 'accept-encoding': 'identity' };
  if (bearer !== undefined) headers['authorization'] = `Bearer ${bearer}`;
  // request() follows no redirect: where keys come from is the operator's decision alone.
  const { statusCode, headers: answered, body } = await request(url, { dispatcher: agent, method: 'GET', headers, signal });
  const fault =
    statusCode !== 200 ? `status ${statusCode}` : Number(answered['content-length'] ?? 0) > limit ? `more than ${limit} bytes` : undefined;
  if (fault !== undefined) {
    body.on('error', () => undefined).destroy();
    throw new SignetError('INVALID_ARGUMENT', `${url.href} answered with ${fault}`);
  }
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > limit) throw new SignetError('TOO_LARGE', `${url.href} answered with more than ${limit} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function readBearer(file: Buffer): string {
  const bearer = file.toString('latin1').trim();
  // Kept out of the message: what is in this file is a credential even if it is a broken one.
  if (!/^[\x21-\x7e]+$/.test(bearer)) throw new SignetError('INVALID_ARGUMENT', 'tokenFile does not hold one token');
  return bearer;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
