import { createHash, createHmac } from 'node:crypto';
import type { Clock, Random } from '../../base/clock.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { createJsonHttp, retryAfterMs } from '../remote/json-http.ts';
import type { JsonAnswer } from '../remote/json-http.ts';
import { loadOptionalPackage } from '../remote/optional-package.ts';
import { publicEndpoint } from './aws-arn.ts';
import type { AwsPlace } from './aws-arn.ts';
import { awsPackages, openAwsCredentials } from './aws-credentials.ts';
import type { AwsKeys } from './aws-credentials.ts';
import { awsFailure } from './aws-failure.ts';

/** Calls one AWS service about one resource. */
export interface AwsClient {
  /**
   * One try of an action (`Sign`). The answer is whatever JSON came: the caller judges it. Throws the AUTHORITY_ errors, or
   * what `expected` makes of AWS's name of an error.
   */
  call(action: string, body: object, signal: AbortSignal, expected?: (name: string) => Error | undefined): Promise<unknown>;
  close(): Promise<void>;
}

const targets = { 'acm-pca': 'ACMPrivateCA', kms: 'TrentService' } as const;

export interface AwsClientOptions {
  readonly service: keyof typeof targets;
  readonly place: AwsPlace | undefined;
  /** What it is about, for messages: an ARN. */
  readonly resource: string;
  /** Who needs it, for messages. */
  readonly needed: string;
  readonly endpoint?: string | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/**
 * The AWS JSON 1.1 protocol, signed by AWS's own SigV4 library, over our own bounded HTTP. The SDK's clients would do the
 * same for four times the installed size (67 MB against 16), with retries and time limits that are decided elsewhere here.
 * Throws AUTHORITY_MISCONFIGURED if the libraries are not installed.
 */
export async function openAwsClient(options: AwsClientOptions): Promise<AwsClient> {
  const { service, place, resource, needed, clock } = options;
  const url = options.endpoint === undefined ? place && publicEndpoint(service, place) : new URL(options.endpoint);
  if (!place || !url) {
    throw new SignetError(
      'AUTHORITY_MISCONFIGURED',
      `where AWS's ${service} is can't be told from ${resource}: set "endpoint" to its https:// URL`,
    );
  }
  const { region } = place;
  const { SignatureV4 } = await loadOptionalPackage(needed, awsPackages, () => import('@smithy/signature-v4'));
  const credentials = await openAwsCredentials(options);
  const http = createJsonHttp({ service: `AWS's ${service} in ${region}` });

  async function signedHeaders(
    { host, hostname, protocol }: URL,
    keys: AwsKeys,
    target: string,
    body: string,
  ): Promise<Record<string, string>> {
    const signer = new SignatureV4({ service, region, credentials: keys, sha256: Sha256 });
    const headers = { host, 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': target };
    const signed = await signer.sign(
      { method: 'POST', protocol, hostname, path: '/', headers, body },
      { signingDate: new Date(clock.now()) },
    );
    return signed.headers;
  }

  async function send(to: URL, keys: AwsKeys, action: string, body: string, signal: AbortSignal): Promise<JsonAnswer> {
    const headers = await signedHeaders(to, keys, `${targets[service]}.${action}`, body);
    return http.send({ method: 'POST', url: to, headers, body }, signal);
  }

  return {
    async call(action, body, signal, expected) {
      const text = JSON.stringify(body);
      const keys = await credentials.get(signal);
      const answer = await send(url, keys, action, text, signal);
      if (answer.status === 200) return answer.body;
      const failure = awsFailure(`${service}:${action}`, resource, answer, retryAfterMs(answer.headers, clock.now()));
      if (failure.credentialRefused) credentials.refused(keys);
      throw expected?.(failure.name) ?? failure.error;
    },
    async close() {
      credentials.close();
      await http.close();
    },
  };
}

/** SHA-256 and HMAC as the signing library wants them: it brings none of its own. */
class Sha256 {
  readonly #hash;
  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', bytes(secret));
  }
  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(bytes(data));
  }
  digest(): Promise<Uint8Array> {
    return Promise.resolve(this.#hash.digest());
  }
  reset(): void {
    throw new Error('not used by the signing library');
  }
}

function bytes(data: string | ArrayBuffer | ArrayBufferView): Buffer {
  if (typeof data === 'string') return Buffer.from(data, 'utf8');
  return ArrayBuffer.isView(data) ? Buffer.from(data.buffer, data.byteOffset, data.byteLength) : Buffer.from(data);
}
