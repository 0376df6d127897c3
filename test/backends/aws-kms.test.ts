import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { awsKms } from '../../src/ca/aws-kms/aws-kms-signer.ts';
import { awsKmsSettings } from '../../src/ca/aws-kms/settings.ts';
import type { AwsKmsSettings } from '../../src/ca/aws-kms/settings.ts';
import type { Signer, SignerParts } from '../../src/ca/signer.ts';
import { FakeAwsError, withEnvironment } from '../support/fake-aws.ts';
import { fakeAwsKms, fakeRegion } from '../support/fake-aws-kms.ts';
import type { FakeAwsKms } from '../support/fake-aws-kms.ts';
import { signerSuite } from '../support/signer-suite.ts';
import { silentLog } from '../support/silent-log.ts';

const never = new AbortController().signal;
const parts: SignerParts = { setting: 'ca.backends.aws.signer', clock: systemClock, log: silentLog, env: {} };

function opened(kms: FakeAwsKms, settings: AwsKmsSettings, wrong = false): Promise<Signer> {
  return withEnvironment(kms.environment({ wrong }), () => awsKms.open(settings, parts, never));
}

signerSuite({
  name: 'aws-kms',
  engine: 'a fake of our own, of the published API',
  async make(kind) {
    const kms = await fakeAwsKms();
    const wish: AwsKmsSettings = { type: 'aws-kms', region: fakeRegion, endpoint: kms.url };
    const made = await withEnvironment(kms.environment(), () => awsKms.createKey(wish, kind, parts, never));
    await made.signer.close();
    // AWS's credential chain reads the environment again whenever it needs another.
    Object.assign(process.env, kms.environment());
    const { settings } = made;
    const key = settings.key ?? '';
    return {
      open: () => opened(kms, settings),
      secrets: kms.secrets,
      faults: {
        outage: kms.outage,
        openRefused: () => opened(kms, settings, true),
        openMissing: () => opened(kms, { ...settings, key: key.replace(/[0-9a-f]{12}$/, '000000000000') }),
        disable() {
          kms.states.set(key, 'Disabled');
          return Promise.resolve(() => {
            kms.states.set(key, 'Enabled');
            return Promise.resolve();
          });
        },
        throttle() {
          kms.fault = new FakeAwsError('ThrottlingException', 'You have exceeded the rate at which you may call KMS.');
          return Promise.resolve(() => {
            kms.fault = undefined;
            return Promise.resolve();
          });
        },
        loseSession() {
          kms.revoke();
          return Promise.resolve();
        },
        createAgain: () => awsKms.createKey(settings, kind, parts, never),
      },
      dispose: async () => {
        await kms[Symbol.asyncDispose]();
      },
    };
  },
});

describe('a key in AWS KMS', () => {
  it('that is not for signing certificates is refused when it is opened', async () => {
    await using kms = await fakeAwsKms();
    const key = await kms.makeKey('ECC_SECG_P256K1');
    await assert.rejects(opened(kms, { type: 'aws-kms', key, endpoint: kms.url }), {
      code: 'AUTHORITY_MISCONFIGURED',
      message: /ECC_NIST_P256/,
    });
  });

  it('that waits for its deletion signs no more, and health says so', async () => {
    await using kms = await fakeAwsKms();
    const key = await kms.makeKey();
    const signer = await opened(kms, { type: 'aws-kms', key, endpoint: kms.url });
    kms.states.set(key, 'PendingDeletion');
    await assert.rejects(signer.sign(Buffer.alloc(100), never), { code: 'AUTHORITY_MISCONFIGURED' });
    assert.equal((await signer.health(never)).canSign, false);
    await signer.close();
  });

  it('is given by the ARN of the key alone: an alias may be pointed elsewhere', () => {
    const arn = 'arn:aws:kms:eu-west-1:123456789012';
    const problems = (settings: object): string[] => awsKmsSettings.safeParse(settings).error?.issues.map(({ message }) => message) ?? [];
    assert.deepEqual(problems({ type: 'aws-kms', key: `${arn}:key/0d9c1f7e-0000-4000-8000-000000000000` }), []);
    assert.match(problems({ type: 'aws-kms', key: `${arn}:alias/ca` }).join(), /alias/);
    assert.match(
      problems({ type: 'aws-kms', key: 'arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/x' }).join(),
      /arn:aws:kms/,
    );
    assert.match(problems({ type: 'aws-kms', endpoint: 'http://kms.example.org' }).join(), /https/);
  });
});
