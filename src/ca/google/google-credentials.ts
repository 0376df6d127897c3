import type { Clock, Random } from '../../base/clock.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { createFreshCredential } from '../remote/fresh-credential.ts';
import type { FreshCredential } from '../remote/fresh-credential.ts';
import { loadOptionalPackage } from '../remote/optional-package.ts';

export interface GoogleToken {
  readonly bearer: string;
}

export interface GoogleCredentialsOptions {
  /** For messages: what needs them. */
  readonly needed: string;
  /** A service account's key or a workload identity federation's configuration; else Application Default Credentials. */
  readonly credentialsFile?: string | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** What a token of Google's lives at least if its end isn't told. */
const assumedLifeMs = 300_000;

/** Access tokens by Google's own library: from a file, or from where every Google program has them (GKE, Compute Engine, the environment). */
export async function openGoogleCredentials(options: GoogleCredentialsOptions): Promise<FreshCredential<GoogleToken>> {
  const { needed, credentialsFile, clock, random, log } = options;
  const { GoogleAuth } = await loadOptionalPackage(needed, ['google-auth-library'], () => import('google-auth-library'));
  const auth = new GoogleAuth({
    scopes: ['https://www.googleapis.com/auth/cloud-platform'],
    // Each time we ask it is for a new one: when to ask is decided by us, well before the old one ends.
    clientOptions: { eagerRefreshThresholdMillis: Number.MAX_SAFE_INTEGER },
    ...(credentialsFile === undefined ? {} : { keyFilename: credentialsFile }),
  });

  return createFreshCredential<GoogleToken>({
    name: "Signet's Google credential",
    clock,
    random,
    log,
    async fetch() {
      try {
        const client = await auth.getClient();
        const { token } = await client.getAccessToken();
        if (typeof token !== 'string' || token === '') throw new Error('no access token');
        return { value: { bearer: token }, endsAt: client.credentials.expiry_date ?? clock.now() + assumedLifeMs };
      } catch (error) {
        throw credentialFailure(error, credentialsFile);
      }
    },
  });
}

function credentialFailure(error: unknown, file: string | undefined): SignetError {
  const status = statusOf(error);
  // The library hangs the whole exchange on its errors; its text is enough for the log.
  const cause = error instanceof Error ? new Error(error.message.slice(0, 1000)) : undefined;
  const where = file ?? 'Application Default Credentials';
  if (status !== undefined && status >= 400 && status < 500 && status !== 429)
    return new SignetError('AUTHORITY_REFUSED', `Google gives no token for ${where}`, { cause });
  if (error instanceof Error && (/default credentials/i.test(error.message) || isFileProblem(error)))
    return new SignetError('AUTHORITY_MISCONFIGURED', `no Google credential is found in ${where}`, { cause });
  return new SignetError('AUTHORITY_UNAVAILABLE', 'the source of Google credentials does not answer', { cause });
}

function statusOf(error: unknown): number | undefined {
  if (!(error instanceof Error)) return undefined;
  if ('status' in error && typeof error.status === 'number') return error.status;
  const response = 'response' in error ? error.response : undefined;
  return typeof response === 'object' && response !== null && 'status' in response && typeof response.status === 'number'
    ? response.status
    : undefined;
}

function isFileProblem(error: Error): boolean {
  return error instanceof SyntaxError || ('code' in error && (error.code === 'ENOENT' || error.code === 'EACCES'));
}
