import { randomUUID } from 'node:crypto';
import { spkiOf } from '../../src/x509/keys.ts';
import { foreignKey } from './forge.ts';
import { digestKeys } from './digest-signing.ts';
import type { CaKeyKind, DigestKey } from './digest-signing.ts';
import { fakeAws, FakeAwsError } from './fake-aws.ts';
import type { FakeAws } from './fake-aws.ts';

export const fakeRegion = 'eu-west-1';

export interface FakeAwsKms extends FakeAws {
  /** By ARN. */
  readonly states: Map<string, 'Enabled' | 'Disabled' | 'PendingDeletion'>;
  makeKey(spec?: string): Promise<string>;
}

interface Spec {
  readonly kind: CaKeyKind;
  readonly algorithm: string;
  readonly digest: 'sha256' | 'sha384';
}

const specs: Readonly<Record<string, Spec>> = {
  ECC_NIST_P256: { kind: 'ec-p256', algorithm: 'ECDSA_SHA_256', digest: 'sha256' },
  ECC_NIST_P384: { kind: 'ec-p384', algorithm: 'ECDSA_SHA_384', digest: 'sha384' },
  RSA_3072: { kind: 'rsa-3072', algorithm: 'RSASSA_PKCS1_V1_5_SHA_256', digest: 'sha256' },
  // Not for signing with what we know; KMS has such.
  ECC_SECG_P256K1: { kind: 'ec-p256', algorithm: 'ECDSA_SHA_256', digest: 'sha256' },
};

/** A fake of ours, not AWS: CreateKey, GetPublicKey and Sign as https://docs.aws.amazon.com/kms/latest/APIReference/ has them, digests taken as digests. */
export async function fakeAwsKms(): Promise<FakeAwsKms> {
  const keys = new Map<string, DigestKey & { readonly spec: string }>();
  const states: FakeAwsKms['states'] = new Map();
  const made = await digestKeys();

  async function makeKey(spec = 'ECC_NIST_P256'): Promise<string> {
    const known = specs[spec];
    if (!known) throw new FakeAwsError('ValidationException');
    const arn = `arn:aws:kms:${fakeRegion}:123456789012:key/${randomUUID()}`;
    keys.set(arn, { ...(await made.make(known.kind)), spec });
    states.set(arn, 'Enabled');
    return arn;
  }

  function usable(arn: unknown): DigestKey & { readonly spec: string } {
    const key = keys.get(String(arn));
    if (!key) throw new FakeAwsError('NotFoundException', `Key '${String(arn)}' does not exist`);
    const state = states.get(String(arn));
    if (state === 'Disabled') throw new FakeAwsError('DisabledException', `${String(arn)} is disabled.`);
    if (state !== 'Enabled') throw new FakeAwsError('KMSInvalidStateException', `${String(arn)} is pending deletion.`);
    return key;
  }

  const aws = await fakeAws({
    async 'TrentService.CreateKey'({ KeySpec, KeyUsage }) {
      if (KeyUsage !== 'SIGN_VERIFY') throw new FakeAwsError('ValidationException');
      const arn = await makeKey(String(KeySpec));
      return { KeyMetadata: { Arn: arn, KeyId: arn.slice(arn.indexOf('/') + 1), KeySpec, KeyUsage, KeyState: 'Enabled' } };
    },
    'TrentService.GetPublicKey'({ KeyId }) {
      const { publicKey, spec } = usable(KeyId);
      if (spec === 'ECC_SECG_P256K1')
        return {
          KeyId,
          PublicKey: spkiOf(foreignKey('secp256k1')).toString('base64'),
          KeySpec: spec,
          KeyUsage: 'SIGN_VERIFY',
          SigningAlgorithms: ['ECDSA_SHA_256'],
        };
      const der = publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
      return { KeyId, PublicKey: der, KeySpec: spec, KeyUsage: 'SIGN_VERIFY', SigningAlgorithms: [specs[spec]?.algorithm] };
    },
    async 'TrentService.Sign'({ KeyId, Message, MessageType, SigningAlgorithm }) {
      const key = usable(KeyId);
      const spec = specs[key.spec];
      const digest = Buffer.from(String(Message), 'base64');
      if (!spec || SigningAlgorithm !== spec.algorithm) throw new FakeAwsError('InvalidKeyUsageException');
      if (MessageType !== 'DIGEST' || digest.length !== (spec.digest === 'sha256' ? 32 : 48))
        throw new FakeAwsError('ValidationException', 'Digest is invalid length for algorithm');
      return { KeyId, Signature: (await key.sign(digest, spec.digest)).toString('base64'), SigningAlgorithm };
    },
  });
  const dispose = aws[Symbol.asyncDispose].bind(aws);
  return Object.assign(aws, {
    states,
    makeKey,
    async [Symbol.asyncDispose]() {
      await dispose();
      await made[Symbol.asyncDispose]();
    },
  });
}
