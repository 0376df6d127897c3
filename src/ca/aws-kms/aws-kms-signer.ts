import { hash } from 'node:crypto';
import { z } from 'zod';
import { SignetError } from '../../base/errors.ts';
import { parseSubjectKey } from '../../x509/keys.ts';
import type { SubjectKey } from '../../x509/keys.ts';
import { arnProblem, partitionOf, readArn } from '../aws/aws-arn.ts';
import type { AwsPlace } from '../aws/aws-arn.ts';
import { openAwsClient } from '../aws/aws-client.ts';
import type { AwsClient } from '../aws/aws-client.ts';
import type { Custodian, MadeKey, Signer, SignerKeyKind, SignerParts } from '../signer.ts';
import type { AwsKmsSettings } from './settings.ts';

interface Scheme {
  readonly algorithm: Signer['algorithm'];
  readonly digest: 'sha256' | 'sha384';
  readonly kms: string;
}

/** Which of a key's algorithms certificates are signed by. */
const schemes: Readonly<Record<SubjectKey['algorithm'], Scheme>> = {
  'ec-p256': { algorithm: 'ecdsa-sha256', digest: 'sha256', kms: 'ECDSA_SHA_256' },
  'ec-p384': { algorithm: 'ecdsa-sha384', digest: 'sha384', kms: 'ECDSA_SHA_384' },
  rsa: { algorithm: 'rsa-sha256', digest: 'sha256', kms: 'RSASSA_PKCS1_V1_5_SHA_256' },
};

/** By KeySpec (https://docs.aws.amazon.com/kms/latest/developerguide/symm-asymm-choose-key-spec.html). */
const specs: Readonly<Record<SignerKeyKind, string>> = { 'ec-p256': 'ECC_NIST_P256', 'ec-p384': 'ECC_NIST_P384', 'rsa-3072': 'RSA_3072' };

const publicKey = z.object({
  PublicKey: z.base64().max(8192),
  KeyUsage: z.string().max(100),
  SigningAlgorithms: z.array(z.string().max(100)).max(20).optional(),
});
const signature = z.object({ Signature: z.base64().max(8192) });
const createdKey = z.object({ KeyMetadata: z.object({ Arn: z.string().refine((arn) => arnProblem('kms', 'key', arn) === undefined) }) });

/**
 * A key in AWS KMS: its public half is asked for once, and each signature is a call of Sign over a digest, so that what is
 * signed does not leave this machine and may be of any length. KMS returns ECDSA in DER and RSA by PKCS#1 v1.5, as X.509
 * wants them.
 */
export const awsKms: Custodian<AwsKmsSettings> = {
  async open(settings, parts, signal) {
    const { key, endpoint } = settings;
    if (key === undefined) throw new SignetError('CONFIG_INVALID', `${parts.setting}.key: the ARN of the key is needed`);
    const kms = await openKms(readArn(key), key, endpoint, parts);
    try {
      return signerOf(kms, key, await readKey(kms, key, signal));
    } catch (error) {
      await kms.close();
      throw error;
    }
  },

  async createKey(settings, kind, parts, signal) {
    const { key, region, endpoint } = settings;
    if (key !== undefined) throw new SignetError('AUTHORITY_REFUSED', `${key} is a key already: leave "key" out to have a new one made`);
    if (region === undefined)
      throw new SignetError('CONFIG_INVALID', `${parts.setting}.region: the region in which to make the key is needed`);
    const kms = await openKms({ partition: partitionOf(region), region }, `new keys in ${region}`, endpoint, parts);
    try {
      return await create(kms, kind, settings, signal);
    } catch (error) {
      await kms.close();
      throw error;
    }
  },
};

async function create(
  kms: AwsClient,
  kind: SignerKeyKind,
  { endpoint }: AwsKmsSettings,
  signal: AbortSignal,
): Promise<MadeKey<AwsKmsSettings>> {
  const body = { KeySpec: specs[kind], KeyUsage: 'SIGN_VERIFY', Description: 'CA key of Signet' };
  const made = createdKey.safeParse(await kms.call('CreateKey', body, signal));
  if (!made.success) throw new SignetError('AUTHORITY_MISBEHAVED', 'AWS KMS did not say which key it made');
  const key = made.data.KeyMetadata.Arn;
  const signer = signerOf(kms, key, await readKey(kms, key, signal));
  return { signer, settings: { type: 'aws-kms', key, ...(endpoint === undefined ? {} : { endpoint }) } };
}

function openKms(
  place: AwsPlace | undefined,
  resource: string,
  endpoint: string | undefined,
  { setting, clock, log }: SignerParts,
): Promise<AwsClient> {
  return openAwsClient({ service: 'kms', place, resource, needed: setting, endpoint, clock, random: Math.random, log });
}

function signerOf(client: AwsClient, key: string, { spki, scheme }: Key): Signer {
  return {
    type: 'aws-kms',
    location: key,
    spki,
    algorithm: scheme.algorithm,
    async sign(tbs, signal) {
      const digest = hash(scheme.digest, tbs, 'base64');
      const body = { KeyId: key, Message: digest, MessageType: 'DIGEST', SigningAlgorithm: scheme.kms };
      const answer = signature.safeParse(await client.call('Sign', body, signal));
      if (!answer.success) throw new SignetError('AUTHORITY_MISBEHAVED', 'AWS KMS returned no signature');
      return Buffer.from(answer.data.Signature, 'base64');
    },
    async health(signal) {
      try {
        // KMS gives the public key of a disabled key to nobody: this needs no permission more than signing has anyway.
        const now = await readKey(client, key, signal);
        const same = now.spki.equals(spki);
        return { canSign: same, detail: same ? 'AWS KMS answers, and the key is enabled' : 'the key in AWS KMS is another one' };
      } catch (error) {
        return { canSign: false, detail: SignetError.from(error).message };
      }
    },
    close: () => client.close(),
  };
}

interface Key {
  readonly spki: Buffer;
  readonly scheme: Scheme;
}

async function readKey(client: AwsClient, key: string, signal: AbortSignal): Promise<Key> {
  const answer = publicKey.safeParse(await client.call('GetPublicKey', { KeyId: key }, signal));
  if (!answer.success) throw new SignetError('AUTHORITY_MISBEHAVED', 'AWS KMS returned no public key');
  const { PublicKey, KeyUsage, SigningAlgorithms = [] } = answer.data;
  const spki = Buffer.from(PublicKey, 'base64');
  const scheme = schemeOf(spki);
  if (KeyUsage !== 'SIGN_VERIFY' || !scheme || !SigningAlgorithms.includes(scheme.kms)) {
    throw new SignetError(
      'AUTHORITY_MISCONFIGURED',
      `${key} can't sign certificates: it must have usage SIGN_VERIFY and spec ECC_NIST_P256, ECC_NIST_P384 or RSA_3072`,
    );
  }
  return { spki, scheme };
}

function schemeOf(spki: Buffer): Scheme | undefined {
  try {
    return schemes[parseSubjectKey(spki).algorithm];
  } catch {
    return undefined;
  }
}
