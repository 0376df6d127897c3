import type { Clock, Random } from '../../base/clock.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { createJsonHttp, retryAfterMs } from '../remote/json-http.ts';
import { openGoogleCredentials } from './google-credentials.ts';
import { googleFailure } from './google-failure.ts';

export interface GoogleCall {
  readonly method: 'GET' | 'POST';
  /** Below the API's version: `projects/...:fetchCaCerts`. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: object;
  /** The IAM permission that it takes, for the message when it is missing. */
  readonly permission: string;
  /** What to throw if there is one already (409), instead of "try again". */
  readonly onConflict?: Error;
}

/** Calls one Google API about one resource. */
export interface GoogleClient {
  /** One try. The answer is whatever JSON came: the caller judges it. Throws the AUTHORITY_ errors. */
  call(call: GoogleCall, signal: AbortSignal): Promise<unknown>;
  close(): Promise<void>;
}

export interface GoogleClientOptions {
  /** For messages. */
  readonly service: string;
  /** The API's public address. */
  readonly publicEndpoint: string;
  readonly endpoint?: string | undefined;
  /** What it is about, for messages. */
  readonly resource: string;
  /** Who needs it, for messages. */
  readonly needed: string;
  readonly credentialsFile?: string | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** Google's REST APIs (https://cloud.google.com/apis/docs/http): JSON with a bearer token. Throws AUTHORITY_MISCONFIGURED if the library is not installed. */
export async function openGoogleClient(options: GoogleClientOptions): Promise<GoogleClient> {
  const { service, publicEndpoint, endpoint, resource, clock } = options;
  const credentials = await openGoogleCredentials(options);
  const http = createJsonHttp({ service });
  const base = new URL(endpoint ?? publicEndpoint);
  return {
    async call({ method, path, query = {}, body, permission, onConflict }, signal) {
      if (signal.aborted) throw SignetError.from(signal.reason);
      const url = new URL(`/v1/${path}`, base);
      for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
      const token = await credentials.get(signal);
      const headers = {
        authorization: `Bearer ${token.bearer}`,
        accept: 'application/json',
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      };
      const answer = await http.send({ method, url, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) }, signal);
      if (answer.status === 200) return answer.body;
      if (answer.status === 401) credentials.refused(token);
      if (answer.status === 409 && onConflict) throw onConflict;
      throw googleFailure(permission, resource, answer, retryAfterMs(answer.headers, clock.now()));
    },
    async close() {
      credentials.close();
      await http.close();
    },
  };
}
