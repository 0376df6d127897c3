import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { gcpKms } from '../../src/ca/gcp-kms/gcp-kms-signer.ts';
import { gcpKmsSettings } from '../../src/ca/gcp-kms/settings.ts';
import type { GcpKmsSettings } from '../../src/ca/gcp-kms/settings.ts';
import type { SignerParts } from '../../src/ca/signer.ts';
import { EmulatedGoogleError, emulatedGoogle } from '../support/emulated-google.ts';
import type { EmulatedGoogle } from '../support/emulated-google.ts';
import { signerSuite } from '../support/signer-suite.ts';
import { silentLog } from '../support/silent-log.ts';

const never = new AbortController().signal;
const parts: SignerParts = { setting: 'ca.backends.google.signer', clock: systemClock, log: silentLog, env: {} };

async function settingsOf(google: EmulatedGoogle, keyVersion: string, wrong = false): Promise<GcpKmsSettings> {
  return { type: 'gcp-kms', keyVersion, endpoint: google.url, credentialsFile: await google.credentialsFile({ wrong }) };
}

signerSuite({
  name: 'gcp-kms',
  engine: 'an emulation of our own, of the published REST API',
  async make(kind) {
    const google = await emulatedGoogle();
    const wish = await settingsOf(google, `${google.keyRing}/cryptoKeys/ca/cryptoKeyVersions/1`);
    const { signer, settings } = await gcpKms.createKey(wish, kind, parts, never);
    await signer.close();
    const { keyVersion } = settings;
    return {
      open: () => gcpKms.open(settings, parts, never),
      secrets: google.secrets,
      faults: {
        outage: google.outage,
        openRefused: async () => gcpKms.open(await settingsOf(google, keyVersion, true), parts, never),
        openMissing: () => gcpKms.open({ ...settings, keyVersion: keyVersion.replace(/1$/, '2') }, parts, never),
        disable() {
          google.disabled.add(keyVersion);
          return Promise.resolve(() => {
            google.disabled.delete(keyVersion);
            return Promise.resolve();
          });
        },
        throttle() {
          google.fault = new EmulatedGoogleError(429, 'RESOURCE_EXHAUSTED', 'Quota exceeded');
          return Promise.resolve(() => {
            google.fault = undefined;
            return Promise.resolve();
          });
        },
        loseSession() {
          google.revoke();
          return Promise.resolve();
        },
        createAgain: () => gcpKms.createKey(settings, kind, parts, never),
      },
      async dispose() {
        await google[Symbol.asyncDispose]();
      },
    };
  },
});

describe('a key in Google Cloud KMS', () => {
  it('that signs in another way than certificates need is refused when it is opened', async () => {
    await using google = await emulatedGoogle();
    const settings = await settingsOf(google, await google.makeKey('pss', 'RSA_SIGN_PSS_3072_SHA256'));
    await assert.rejects(gcpKms.open(settings, parts, never), { code: 'AUTHORITY_MISCONFIGURED', message: /EC_SIGN_P256_SHA256/ });
  });

  it('what was damaged on its way is not used', async () => {
    await using google = await emulatedGoogle();
    const settings = await settingsOf(google, await google.makeKey('ca', 'EC_SIGN_P256_SHA256'));
    const signer = await gcpKms.open(settings, parts, never);
    google.damage = true;
    await assert.rejects(signer.sign(Buffer.alloc(100), never), { code: 'AUTHORITY_UNAVAILABLE', message: /damaged/ });
    await assert.rejects(gcpKms.open(settings, parts, never), { code: 'AUTHORITY_UNAVAILABLE', message: /damaged/ });
    google.damage = false;
    assert.ok(Buffer.isBuffer(await signer.sign(Buffer.alloc(100), never)));
    await signer.close();
  });

  it('is named by its version, and by nothing that could lead elsewhere', () => {
    const good = 'projects/p/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1';
    const accepts = (keyVersion: string): boolean => gcpKmsSettings.safeParse({ type: 'gcp-kms', keyVersion }).success;
    assert.ok(accepts(good));
    for (const bad of [`${good}/x`, good.replace('/r/', '/../'), good.replace('/k/', '/k?x/'), good.slice(0, -2), 'projects/p'])
      assert.ok(!accepts(bad), bad);
  });
});
