/** The real SoftHSM 2 stands for every HSM: keys that are made in it, sign there, and never come out. */
import assert from 'node:assert/strict';
import { cp, mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../src/base/clock.ts';
import { SignetError } from '../../src/base/errors.ts';
import { createSignerKey, openSigner } from '../../src/ca/open-signer.ts';
import { pkcs11Settings } from '../../src/ca/pkcs11/settings.ts';
import type { Log } from '../../src/base/log.ts';
import type { Pkcs11Settings } from '../../src/ca/pkcs11/settings.ts';
import type { Signer, SignerKeyKind, SignerParts } from '../../src/ca/signer.ts';
import { openFilesAuthority } from '../../src/ca/files/files-authority.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { createIntermediateCertificate, createRootCertificate } from '../../src/x509/ca-certificate.ts';
import { localSigner } from '../../src/x509/issuing-ca.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { authoritySuite } from '../support/authority-suite.ts';
import { tempFolder } from '../support/temp.ts';
import { startSoftHsm } from '../support/engines/softhsm.ts';
import type { SoftHsm } from '../support/engines/softhsm.ts';
import { makeOddKey, takePrivateKey } from '../support/engines/softhsm-session.ts';
import { eventually } from '../support/eventually.ts';
import { runProgram } from '../support/process.ts';
import { recordingLog } from '../support/recording-log.ts';
import { silentLog } from '../support/silent-log.ts';
import { signerSuite } from '../support/signer-suite.ts';

const never = new AbortController().signal;
const deviceRemoved = 0x32;
const sessionHandleInvalid = 0xb3;
const keyFunctionNotPermitted = 0x68;
const crash = 0xdead;

const partsOf = (hsm: SoftHsm): SignerParts => ({ setting: 'signer', clock: systemClock, log: silentLog, env: hsm.env });

function settingsOf(hsm: SoftHsm, more: Partial<Pkcs11Settings> = {}): Pkcs11Settings {
  const { module, tokenLabel, pinFile } = hsm;
  return pkcs11Settings.parse({ type: 'pkcs11', module, tokenLabel, keyLabel: 'ca', pinFile, sessions: 4, ...more });
}

async function isRefused(work: Promise<unknown>, code: string, message: RegExp): Promise<void> {
  await assert.rejects(work, (error) => {
    assert.ok(error instanceof SignetError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    return true;
  });
}

{
  await using probe = await startSoftHsm();
  signerSuite({
    name: 'pkcs11',
    engine: `SoftHSM ${probe.version}`,
    async make(kind) {
      const hsm = await startSoftHsm();
      const parts = partsOf(hsm);
      const made = await createSignerKey(settingsOf(hsm), kind, parts, never);
      await made.signer.close();
      const open = (settings = made.settings) => openSigner(settings, parts, never);
      const wrongPin = `${hsm.pinFile}-wrong`;
      await writeFile(wrongPin, 'another-pin-0815');
      return {
        open,
        secrets: [hsm.pin, 'another-pin-0815'],
        faults: {
          outage: { stop: () => hsm.faults({ rv: deviceRemoved }), start: () => hsm.faults(undefined) },
          openRefused: () => open(settingsOf(hsm, { pinFile: wrongPin })),
          openMissing: () => open(settingsOf(hsm, { keyLabel: 'nobody' })),
          loseSession: () => hsm.faults({ rv: sessionHandleInvalid, running: true }),
          createAgain: () => createSignerKey(settingsOf(hsm), kind, parts, never),
          disable: async () => {
            await hsm.faults({ rv: keyFunctionNotPermitted });
            return () => hsm.faults(undefined);
          },
          takeKey: () => Promise.resolve(takePrivateKey(hsm, kind === 'rsa-3072')),
        },
        dispose: async () => hsm[Symbol.asyncDispose](),
      };
    },
  });
}

for (const kind of ['ec-p256', 'rsa-3072'] as const) {
  authoritySuite({
    name: `files, an intermediate's key in SoftHSM (${kind})`,
    trustDomain: parseTrustDomain('example.org'),
    intermediates: 1,
    async make() {
      const hsm = await startSoftHsm();
      const { settings, parts } = await withKey(hsm, { sessions: 16 }, silentLog, kind);
      const folder = await tempFolder();
      const [rootFile, intermediateFile] = [folder.file('root.pem'), folder.file('intermediate.pem')];
      const { spki } = await closing(await openSigner(settings, parts, never));
      const root = generateKeyPair('ec-p384');
      const now = Math.floor(Date.now() / 1000) * 1000;
      const dates = { notBefore: now - 3_600_000, notAfter: now + 100 * 86_400_000 };
      const certificate = createRootCertificate({ key: root, commonName: 'Above', organization: 'Example', ...dates });
      const issuer = { certificate, signer: localSigner(root.privateKey) };
      const issuing = { commonName: 'Issuing', organization: 'Example', ...dates, spki, pathLength: 0 };
      await writeFile(rootFile, pemEncode('CERTIFICATE', certificate));
      await writeFile(intermediateFile, pemEncode('CERTIFICATE', await createIntermediateCertificate({ issuer, ...issuing })));
      const open = async (more: Partial<Pkcs11Settings> = {}) => {
        const signer = await openSigner({ ...settings, ...more }, parts, never);
        const files = { rootFile, intermediateFile, signer };
        return openFilesAuthority({
          name: 'hsm',
          trustDomain: parseTrustDomain('example.org'),
          clock: systemClock,
          log: silentLog,
          ...files,
        });
      };
      await writeFile(folder.file('wrong-pin'), 'another-pin-0815');
      return {
        open: () => open(),
        faults: {
          outage: { stop: () => hsm.faults({ rv: deviceRemoved }), start: () => hsm.faults(undefined) },
          openRefused: () => open({ pinFile: folder.file('wrong-pin') }),
          openMisconfigured: () => open({ keyLabel: 'nobody' }),
          outliveCredential: () => hsm.faults({ rv: sessionHandleInvalid, running: true }),
        },
        async dispose() {
          await folder[Symbol.asyncDispose]();
          await hsm[Symbol.asyncDispose]();
        },
      };
    },
  });
}

async function closing(signer: Signer): Promise<Signer> {
  await signer.close();
  return signer;
}

/** A token with a key in it. */
async function withKey(hsm: SoftHsm, more: Partial<Pkcs11Settings> = {}, log: Log = silentLog, kind: SignerKeyKind = 'ec-p256') {
  const parts = { ...partsOf(hsm), log };
  const made = await createSignerKey(settingsOf(hsm, more), kind, parts, never);
  await made.signer.close();
  return { settings: pkcs11Settings.parse(made.settings), parts };
}

const tbs = Buffer.from('to be signed');

describe('a PKCS#11 module', () => {
  it('that crashes takes down its own process alone, and is loaded again', async () => {
    await using hsm = await startSoftHsm();
    const { settings, parts } = await withKey(hsm);
    const signer = await openSigner(settings, parts, never);
    await hsm.faults({ rv: crash, running: true });
    await isRefused(signer.sign(tbs, never), 'AUTHORITY_UNAVAILABLE', /SIGABRT/);
    await signer.sign(tbs, never);
    await signer.close();
  });

  it('that hangs holds up nobody: callers give up when they like, and health says no', async () => {
    await using hsm = await startSoftHsm();
    const { settings, parts } = await withKey(hsm, { sessions: 2 });
    const signer = await openSigner(settings, parts, never);
    await hsm.faults({ delayMs: 600_000 });
    // Two in the module, and more that wait for them.
    const patience = AbortSignal.timeout(300);
    const outcomes = await Promise.allSettled(Array.from({ length: 6 }, () => signer.sign(tbs, patience)));
    for (const one of outcomes) assert.ok(one.status === 'rejected' && (one.reason as SignetError).code === 'DEADLINE_EXCEEDED');
    assert.equal((await signer.health(AbortSignal.timeout(100))).canSign, false);
    await signer.close();
    await hsm.faults(undefined);
    const again = await openSigner(settings, parts, never);
    await again.sign(tbs, never);
    await again.close();
  });

  it('that forgot our sessions is opened anew within one call, and that is in the log', async () => {
    await using hsm = await startSoftHsm();
    const log = recordingLog();
    const { settings, parts } = await withKey(hsm, {}, log);
    const signer = await openSigner(settings, parts, never);
    await hsm.faults({ rv: sessionHandleInvalid, running: true });
    await Promise.all(Array.from({ length: 8 }, () => signer.sign(tbs, never)));
    assert.equal(log.lines.filter(({ message }) => message.includes('opened anew')).length, 1);
    await signer.close();
  });

  it('whose token is unplugged is away, not misconfigured; plugged in again it signs', async () => {
    await using hsm = await startSoftHsm();
    const { settings, parts } = await withKey(hsm);
    const signer = await openSigner(settings, parts, never);
    await hsm.unplug();
    await hsm.faults({ rv: deviceRemoved, running: true });
    await isRefused(signer.sign(tbs, never), 'AUTHORITY_UNAVAILABLE', /CKR_DEVICE_REMOVED/);
    await isRefused(signer.sign(tbs, never), 'AUTHORITY_UNAVAILABLE', /no token is labelled "signet"/);
    assert.equal((await signer.health(never)).canSign, false);
    await hsm.plug();
    await eventually('it signs again', () =>
      signer.sign(tbs, never).then(
        () => true,
        () => undefined,
      ),
    );
    await signer.close();
  });

  it('gets a PIN that it refused no second time, lest the token locks; a new one in the file is taken', async () => {
    await using hsm = await startSoftHsm();
    const { settings, parts } = await withKey(hsm);
    const signer = await openSigner(settings, parts, never);
    await writeFile(hsm.pinFile, 'mistyped-0815');
    await hsm.faults({ rv: sessionHandleInvalid, running: true });
    await isRefused(signer.sign(tbs, never), 'AUTHORITY_REFUSED', /CKR_PIN_INCORRECT/);
    await sleep(1100);
    await isRefused(signer.sign(tbs, never), 'AUTHORITY_REFUSED', /not tried again/);
    await writeFile(hsm.pinFile, hsm.pin);
    await eventually('it signs again', () =>
      signer.sign(tbs, never).then(
        () => true,
        () => undefined,
      ),
    );
    await signer.close();
  });

  it('takes the PIN from the environment, and shows its process none of our own variables', async () => {
    await using hsm = await startSoftHsm();
    const { settings } = await withKey(hsm);
    const { pinFile, ...rest } = pkcs11Settings.parse(settings);
    assert.notEqual(pinFile, undefined);
    const byEnvironment = pkcs11Settings.parse({ ...rest, pinEnvironment: 'SIGNET_TEST_PIN' });
    const signer = await openSigner(byEnvironment, { ...partsOf(hsm), env: { ...hsm.env, SIGNET_TEST_PIN: hsm.pin } }, never);
    await signer.sign(tbs, never);
    await signer.close();
    await isRefused(openSigner(byEnvironment, partsOf(hsm), never), 'CONFIG_INVALID', /SIGNET_TEST_PIN is not set/);
  });

  it('serves two at once, each in a process of its own', async () => {
    await using hsm = await startSoftHsm();
    const { settings, parts } = await withKey(hsm);
    const both = await Promise.all([openSigner(settings, parts, never), openSigner(settings, parts, never)]);
    for (const signer of both) await signer.sign(tbs, never);
    await both[0].close();
    await both[1].sign(tbs, never);
    await both[1].close();
  });

  it('is named when it is not there, as is a token that is not', async () => {
    await using hsm = await startSoftHsm();
    const open = (more: Partial<Pkcs11Settings>) => openSigner(settingsOf(hsm, more), partsOf(hsm), never);
    await isRefused(open({ module: '/nowhere/libvendor.so' }), 'AUTHORITY_MISCONFIGURED', /\/nowhere\/libvendor\.so can't be loaded/);
    await isRefused(
      open({ tokenLabel: 'other' }),
      'AUTHORITY_MISCONFIGURED',
      /no token is labelled "other"; the module shows: "signet" in slot/,
    );
    await isRefused(open({ pinFile: '/nowhere/pin' }), 'CONFIG_INVALID', /signer\.pinFile: \/nowhere\/pin can't be read/);
  });

  it('has kinds of keys that a CA has none of, which are refused by name', async () => {
    await using hsm = await startSoftHsm();
    makeOddKey(hsm, '01', 'P-521');
    makeOddKey(hsm, '02', 'RSA-1024');
    const { keyLabel, ...rest } = settingsOf(hsm);
    assert.equal(keyLabel, 'ca');
    const open = (keyId: string) => openSigner(pkcs11Settings.parse({ ...rest, keyId }), partsOf(hsm), never);
    await isRefused(open('01'), 'AUTHORITY_MISCONFIGURED', /neither P-256 nor P-384|another curve/);
    await isRefused(open('02'), 'AUTHORITY_MISCONFIGURED', /1024 bits is too weak/);
  });

  it('needs a package that is optional: where it is not, the message says how to get it', async () => {
    // The sources beside all that is installed, but for this one package.
    await using folder = await tempFolder();
    const here = fileURLToPath(new URL('../..', import.meta.url));
    await cp(join(here, 'src'), folder.file('src'), { recursive: true });
    await cp(join(here, 'package.json'), folder.file('package.json'));
    await mkdir(folder.file('node_modules'));
    for (const name of await readdir(join(here, 'node_modules')))
      if (name !== 'pkcs11js' && !name.startsWith('.'))
        await symlink(join(here, 'node_modules', name), folder.file(`node_modules/${name}`));
    const settings = ['module=/usr/lib/vendor.so', 'tokenLabel=signet', 'keyLabel=ca', 'pinFile=/dev/null'];
    const args = ['ca', 'init', '--trust-domain', 'example.org', '--out', folder.path, '--signer', 'pkcs11', '--with', ...settings];
    const ran = await runProgram(process.execPath, [folder.file('src/main.ts'), ...args]);
    assert.equal(ran.code, 1);
    assert.match(ran.stderr, /PKCS#11 needs the package pkcs11js.*npm install pkcs11js/);
  });
});
