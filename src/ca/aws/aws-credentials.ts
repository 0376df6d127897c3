import type { Clock, Random } from '../../base/clock.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { createFreshCredential } from '../remote/fresh-credential.ts';
import type { FreshCredential } from '../remote/fresh-credential.ts';
import { loadOptionalPackage } from '../remote/optional-package.ts';

export interface AwsKeys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export const awsPackages = ['@aws-sdk/credential-provider-node', '@smithy/signature-v4'];

export interface AwsCredentialsOptions {
  /** For messages: what needs them. */
  readonly needed: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/**
 * Credentials by AWS's own chain: environment, files, SSO, a process, a web identity (EKS), a container's or an
 * instance's metadata service. Nothing of them is in our configuration.
 */
export async function openAwsCredentials({ needed, clock, random, log }: AwsCredentialsOptions): Promise<FreshCredential<AwsKeys>> {
  const { defaultProvider } = await loadOptionalPackage(needed, awsPackages, () => import('@aws-sdk/credential-provider-node'));
  const provide = defaultProvider({ maxRetries: 0 });
  return createFreshCredential<AwsKeys>({
    name: "Signet's AWS credential",
    clock,
    random,
    log,
    // The library keeps one until five minutes before its end; when to ask for the next is decided by us.
    async fetch() {
      try {
        const { accessKeyId, secretAccessKey, sessionToken, expiration } = await provide({ forceRefresh: true });
        return {
          value: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) },
          endsAt: expiration?.getTime() ?? Infinity,
        };
      } catch (error) {
        throw credentialFailure(error);
      }
    },
  });
}

function credentialFailure(error: unknown): SignetError {
  const name = error instanceof Error ? error.name : '';
  if (error instanceof Error && error.message.includes('Could not load credentials from any providers')) {
    const where = 'in the environment, in AWS files, or from a metadata service: see the AWS page of the how-to guides';
    return new SignetError('AUTHORITY_MISCONFIGURED', `no AWS credential is found ${where}`, { cause: error });
  }
  // What STS says when the role, or the token that stands for it, is wrong.
  if (/^(AccessDenied|InvalidIdentityToken|ExpiredToken|IDPRejectedClaim|MalformedPolicy)/.test(name))
    return new SignetError('AUTHORITY_REFUSED', `AWS gives Signet no credential: ${name}`, { cause: error });
  return new SignetError('AUTHORITY_UNAVAILABLE', 'the source of AWS credentials does not answer', { cause: error });
}
