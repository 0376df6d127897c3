import { createPublicKey, hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { abortable, deadlineSignal } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import { openGoogleClient } from '../google/google-client.ts';
import type { GoogleClient } from '../google/google-client.ts';
import type { Custodian, Signer, SignerKeyKind, SignerParts } from '../signer.ts';
import { crc32c } from './crc32c.ts';
import type { GcpKmsSettings } from './settings.ts';

interface Scheme {
  readonly algorithm: Signer['algorithm'];
  readonly digest: 'sha256' | 'sha384';
}

const rsa: Scheme = { algorithm: 'rsa-sha256', digest: 'sha256' };
/** CryptoKeyVersionAlgorithm (https://cloud.google.com/kms/docs/algorithms): those whose signatures X.509 has a name for that we use. */
const schemes: ReadonlyMap<string, Scheme> = new Map<string, Scheme>([
  ['EC_SIGN_P256_SHA256', { algorithm: 'ecdsa-sha256', digest: 'sha256' }],
  ['EC_SIGN_P384_SHA384', { algorithm: 'ecdsa-sha384', digest: 'sha384' }],
  ['RSA_SIGN_PKCS1_2048_SHA256', rsa],
  ['RSA_SIGN_PKCS1_3072_SHA256', rsa],
  ['RSA_SIGN_PKCS1_4096_SHA256', rsa],
]);

const algorithms: Readonly<Record<SignerKeyKind, string>> = {
  'ec-p256': 'EC_SIGN_P256_SHA256',
  'ec-p384': 'EC_SIGN_P384_SHA384',
  'rsa-3072': 'RSA_SIGN_PKCS1_3072_SHA256',
};

/** An int64 is a string in Google's JSON; some proxies make it a number. */
const checksum = z.union([z.string().regex(/^\d{1,10}$/), z.int()]).transform(Number);
const publicKey = z.object({ pem: z.string().max(8192), algorithm: z.string().max(100), pemCrc32c: checksum, name: z.string().max(1000) });
const signature = z.object({
  signature: z.base64().max(8192),
  signatureCrc32c: checksum,
  verifiedDigestCrc32c: z.boolean().optional(),
  name: z.string().max(1000),
});
const makingMs = 60_000;
const makingPauseMs = 500;

/**
 * A key in Google Cloud KMS: its public half is asked for once, each signature is a call of asymmetricSign over a digest,
 * with checksums both ways as https://cloud.google.com/kms/docs/data-integrity-guidelines wants them.
 */
export const gcpKms: Custodian<GcpKmsSettings> = {
  async open(settings, parts, signal) {
    const { keyVersion } = settings;
    const kms = await openKms(settings, parts);
    try {
      return signerOf(kms, keyVersion, await readKey(kms, keyVersion, signal));
    } catch (error) {
      await kms.close();
      throw error;
    }
  },

  async createKey(settings, kind, parts, signal) {
    const { keyVersion } = settings;
    const [ring, key, version] = keyVersion.split(/\/cryptoKeys\/|\/cryptoKeyVersions\//);
    // The service numbers versions itself: a new key's is 1.
    if (version !== '1')
      throw new SignetError('CONFIG_INVALID', `${parts.setting}.keyVersion must end with cryptoKeyVersions/1 for a key that is to be made`);
    const kms = await openKms(settings, parts);
    try {
      await create(kms, `${ring ?? ''}/cryptoKeys`, key ?? '', kind, signal);
      return { signer: signerOf(kms, keyVersion, await whenMade(kms, keyVersion, signal)), settings };
    } catch (error) {
      await kms.close();
      throw error;
    }
  },
};

/** In an HSM: nobody gets it out, Google's own administrators neither. */
async function create(client: GoogleClient, parent: string, key: string, kind: SignerKeyKind, signal: AbortSignal): Promise<void> {
  const body = { purpose: 'ASYMMETRIC_SIGN', versionTemplate: { algorithm: algorithms[kind], protectionLevel: 'HSM' } };
  const permission = 'cloudkms.cryptoKeys.create';
  const exists = new SignetError('AUTHORITY_REFUSED', `there is a key ${parent}/${key} already: name another, or use that one as it is`);
  await client.call({ method: 'POST', path: parent, query: { cryptoKeyId: key }, body, permission, onConflict: exists }, signal);
}

/** An HSM takes a while to make a key; until then its version has no public key to show. */
async function whenMade(client: GoogleClient, keyVersion: string, parent: AbortSignal): Promise<Key> {
  const signal = deadlineSignal(makingMs, parent);
  for (;;) {
    try {
      return await readKey(client, keyVersion, signal);
    } catch (error) {
      if (!(error instanceof SignetError && error.code === 'AUTHORITY_MISCONFIGURED')) throw error;
    }
    await abortable(sleep(makingPauseMs, undefined, { signal }), signal);
  }
}

function openKms({ keyVersion, credentialsFile, endpoint }: GcpKmsSettings, { setting, clock, log }: SignerParts): Promise<GoogleClient> {
  return openGoogleClient({
    service: 'Google Cloud KMS',
    publicEndpoint: 'https://cloudkms.googleapis.com',
    endpoint,
    resource: keyVersion,
    needed: setting,
    credentialsFile,
    clock,
    random: Math.random,
    log,
  });
}

function signerOf(client: GoogleClient, keyVersion: string, { spki, scheme }: Key): Signer {
  return {
    type: 'gcp-kms',
    location: keyVersion,
    spki,
    algorithm: scheme.algorithm,
    async sign(tbs, signal) {
      const digest = hash(scheme.digest, tbs, 'buffer');
      const body = { digest: { [scheme.digest]: digest.toString('base64') }, digestCrc32c: String(crc32c(digest)) };
      const permission = 'cloudkms.cryptoKeyVersions.useToSign';
      const call = { method: 'POST', path: `${keyVersion}:asymmetricSign`, body, permission } as const;
      const parsed = signature.safeParse(await client.call(call, signal));
      if (!parsed.success) throw new SignetError('AUTHORITY_MISBEHAVED', 'Google Cloud KMS returned no signature');
      const answer = parsed.data;
      const signed = Buffer.from(answer.signature, 'base64');
      if (answer.verifiedDigestCrc32c !== true || answer.name !== keyVersion || crc32c(signed) !== answer.signatureCrc32c)
        throw damaged('the digest or the signature');
      return signed;
    },
    async health(signal) {
      try {
        // A version that is disabled or destroyed has no public key to give: no permission more than opening takes.
        const now = await readKey(client, keyVersion, signal);
        const same = now.spki.equals(spki);
        return {
          canSign: same,
          detail: same ? 'Google Cloud KMS answers, and the key is enabled' : 'the key in Google Cloud KMS is another one',
        };
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

async function readKey(client: GoogleClient, keyVersion: string, signal: AbortSignal): Promise<Key> {
  const permission = 'cloudkms.cryptoKeyVersions.viewPublicKey';
  const parsed = publicKey.safeParse(await client.call({ method: 'GET', path: `${keyVersion}/publicKey`, permission }, signal));
  if (!parsed.success) throw new SignetError('AUTHORITY_MISBEHAVED', 'Google Cloud KMS returned no public key');
  const { pem, algorithm, pemCrc32c, name } = parsed.data;
  if (name !== keyVersion || crc32c(Buffer.from(pem)) !== pemCrc32c) throw damaged('the public key');
  const scheme = schemes.get(algorithm);
  if (!scheme) {
    throw new SignetError(
      'AUTHORITY_MISCONFIGURED',
      `${keyVersion} can't sign certificates: its algorithm must be EC_SIGN_P256_SHA256, EC_SIGN_P384_SHA384 or RSA_SIGN_PKCS1_3072_SHA256`,
    );
  }
  return { spki: createPublicKey(pem).export({ type: 'spki', format: 'der' }), scheme };
}

/** Worth another try, says Google: something on the way changed it. */
function damaged(what: string): SignetError {
  return new SignetError('AUTHORITY_UNAVAILABLE', `${what} was damaged between here and Google Cloud KMS`);
}
