import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../../src/base/clock.ts';
import { SignetError } from '../../../src/base/errors.ts';
import type { ErrorCode } from '../../../src/base/errors.ts';
import type { Log } from '../../../src/base/log.ts';
import { openFilesAuthority } from '../../../src/ca/files/files-authority.ts';
import type { CaFiles } from '../../../src/ca/files/ca-files.ts';
import { parseTrustDomain } from '../../../src/spiffe/id.ts';
import { signerKeyKinds } from '../../../src/ca/signer.ts';
import { createIntermediateCertificate, createRootCertificate, signRootCertificate } from '../../../src/x509/ca-certificate.ts';
import { verifyChain } from '../../../src/x509/chain.ts';
import { localSigner } from '../../../src/x509/issuing-ca.ts';
import { generateKeyPair, privateKeyPem } from '../../../src/x509/keys.ts';
import type { KeyPair } from '../../../src/x509/keys.ts';
import { createLeafIssuer } from '../../../src/x509/leaf.ts';
import { pemEncode } from '../../../src/x509/pem.ts';
import { authoritySuite, signingRequest } from '../../support/authority-suite.ts';
import { fakeCustodian } from '../../support/fake-signer.ts';
import { foreignCa } from '../../support/openssl.ts';
import { silentLog } from '../../support/silent-log.ts';

const trustDomain = parseTrustDomain('example.org');
const passphrase = 'correct horse battery';
const hour = 3_600_000;
const day = 24 * hour;
const start = Math.floor(Date.now() / 1000) * 1000;

interface Ca {
  readonly key: KeyPair;
  readonly certificate: Buffer;
}

function root(commonName: string, fields: { notBefore?: number; notAfter?: number; uri?: string } = {}): Ca {
  const key = generateKeyPair('ec-p384');
  const dates = { notBefore: start - hour, notAfter: start + 100 * day };
  return { key, certificate: createRootCertificate({ key, commonName, organization: 'Example', ...dates, ...fields }) };
}

async function intermediate(
  issuer: Ca,
  fields: { notBefore?: number; notAfter?: number; spki?: Buffer; pathLength?: number } = {},
): Promise<Ca> {
  const key = generateKeyPair();
  const certificate = await createIntermediateCertificate({
    issuer: { certificate: issuer.certificate, signer: localSigner(issuer.key.privateKey) },
    spki: key.spki,
    commonName: 'Issuing',
    organization: 'Example',
    notBefore: start - hour,
    notAfter: start + 50 * day,
    pathLength: 0,
    ...fields,
  });
  return { key, certificate };
}

const pem = (...certificates: readonly Buffer[]): string => certificates.map((der) => pemEncode('CERTIFICATE', der)).join('');

function encryptedPem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase }).toString();
}

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'signet-files-'));
});
after(() => rm(folder, { recursive: true }));

let count = 0;
async function file(text: string, mode = 0o600): Promise<string> {
  const path = join(folder, `${String(count++)}.pem`);
  await writeFile(path, text, { mode });
  await chmod(path, mode);
  return path;
}

function open(files: CaFiles, log: Log = silentLog) {
  return openFilesAuthority({ name: 'files', trustDomain, clock: systemClock, log, ...files });
}

const noDisposal = (): Promise<void> => Promise.resolve();

authoritySuite({
  name: 'files, a root with its key (encrypted, P-384)',
  trustDomain,
  intermediates: 0,
  async make() {
    const ca = root('One');
    const files = { rootFile: await file(pem(ca.certificate)), keyFile: await file(encryptedPem(ca.key.privateKey)), passphrase };
    return { open: () => open(files), dispose: noDisposal };
  },
});

authoritySuite({
  name: 'files, an offline root',
  trustDomain,
  intermediates: 1,
  async make() {
    const above = root('Offline', { uri: 'spiffe://example.org' });
    const issuing = await intermediate(above);
    const files = {
      rootFile: await file(pem(above.certificate)),
      intermediateFile: await file(pem(issuing.certificate)),
      keyFile: await file(privateKeyPem(issuing.key.privateKey)),
    };
    return { open: () => open(files), dispose: noDisposal };
  },
});

authoritySuite({
  name: 'files, an RSA root that OpenSSL made',
  trustDomain,
  intermediates: 0,
  async make() {
    const ca = await foreignCa('RSA Root', ['-newkey', 'rsa:2048', '-nodes']);
    const files = { rootFile: await file(ca.certificate), keyFile: await file(ca.key) };
    return { open: () => open(files), dispose: noDisposal };
  },
});

for (const kind of signerKeyKinds) {
  authoritySuite({
    name: `files, an intermediate whose key is elsewhere (${kind})`,
    trustDomain,
    intermediates: 1,
    async make() {
      const above = root('Above');
      const custodian = fakeCustodian(kind, 1);
      const issuing = await intermediate(above, { spki: custodian.open().spki });
      const files = { rootFile: await file(pem(above.certificate)), intermediateFile: await file(pem(issuing.certificate)) };
      const failing = (code: ErrorCode | undefined) => () => {
        custodian.fails = code;
        return Promise.resolve();
      };
      return {
        open: () => open({ ...files, signer: custodian.open() }),
        faults: {
          outage: { stop: failing('AUTHORITY_UNAVAILABLE'), start: failing(undefined) },
          throttle: async () => {
            await failing('AUTHORITY_THROTTLED')();
            return failing(undefined);
          },
        },
        dispose: noDisposal,
      };
    },
  });
}

describe('a CA from files', () => {
  it('whose key is elsewhere is one whose certificates are verified, and gives its keeper the signal of the call', async () => {
    const custodian = fakeCustodian();
    const signer = custodian.open();
    const dates = { notBefore: start - hour, notAfter: start + day };
    const subject = { commonName: 'Remote', organization: 'Example', ...dates };
    const certificate = await signRootCertificate({ spki: signer.spki, signer, ...subject }, new AbortController().signal);
    const authority = await open({ rootFile: await file(pem(certificate)), signer });
    assert.equal(authority.capabilities.builtHere, false);
    custodian.delayMs = 60_000;
    await assert.rejects(
      authority.sign(signingRequest(trustDomain), AbortSignal.timeout(20)),
      (error) => error instanceof SignetError && error.code === 'DEADLINE_EXCEEDED',
    );
    custodian.fails = 'AUTHORITY_UNAVAILABLE';
    assert.equal((await authority.health(new AbortController().signal)).canSign, false);
  });

  it('may be two intermediates below the root', async () => {
    const above = root('Deep');
    const policy = await intermediate(above, { pathLength: 1 });
    const issuing = await intermediate(policy, { notAfter: start + 40 * day });
    const authority = await open({
      rootFile: await file(pem(above.certificate)),
      intermediateFile: await file(pem(issuing.certificate, policy.certificate)),
      keyFile: await file(privateKeyPem(issuing.key.privateKey)),
    });
    const { certificates } = await authority.sign(signingRequest(trustDomain), new AbortController().signal);
    assert.deepEqual(certificates.slice(1), [issuing.certificate, policy.certificate]);
    verifyChain(certificates, [above.certificate], Date.now());
    assert.equal(authority.issuersEnd(), start + 40 * day, 'the earliest end counts');
  });

  it('warns of a key that others may read, and of an end that is near', async () => {
    const warnings: string[] = [];
    const log = { ...silentLog, warn: (_fields: object, message: string) => warnings.push(message) };
    const ca = root('Loose', { notAfter: start + 2 * day });
    await open({ rootFile: await file(pem(ca.certificate)), keyFile: await file(privateKeyPem(ca.key.privateKey), 0o644) }, log);
    assert.equal(warnings.length, 2);
    assert.match(warnings.join(), /chmod 600/);
    assert.match(warnings.join(), /ends in/);
  });

  it('stops signing at its end, and says so', async () => {
    const ca = root('Short', { notAfter: start + day });
    let now = Date.now();
    const files = { rootFile: await file(pem(ca.certificate)), keyFile: await file(privateKeyPem(ca.key.privateKey)) };
    const authority = await openFilesAuthority({ name: 'files', trustDomain, clock: { now: () => now }, log: silentLog, ...files });
    now += 2 * day;
    assert.equal((await authority.health(new AbortController().signal)).canSign, false);
    await assert.rejects(
      authority.sign(signingRequest(trustDomain), new AbortController().signal),
      (error) => error instanceof SignetError && error.code === 'AUTHORITY_MISCONFIGURED',
    );
  });

  /** What is wrong, what the message must say, and with which code. */
  const mistakes: Record<string, { files: () => Promise<Parameters<typeof open>[0]>; says: RegExp; code?: string }> = {
    'a file that is not there': {
      files: () => Promise.resolve({ rootFile: join(folder, 'nowhere'), keyFile: join(folder, 'nowhere') }),
      says: /nowhere: it can't be read \(ENOENT\)/,
    },
    'a folder': { files: () => Promise.resolve({ rootFile: folder, keyFile: folder }), says: /can't be read \(EISDIR\)/ },
    'a huge file': {
      files: async () => ({ rootFile: await file('x'.repeat(300_000)), keyFile: '' }),
      says: /larger than/,
    },
    'a root that is no PEM': { files: async () => ({ rootFile: await file('hello'), keyFile: await file('') }), says: /no certificate/ },
    'a key in place of the root': {
      files: async () => {
        const key = await file(privateKeyPem(root('X').key.privateKey));
        return { rootFile: key, keyFile: key };
      },
      says: /PRIVATE KEY found where only CERTIFICATE/,
    },
    'two roots': {
      files: async () => ({ rootFile: await file(pem(root('A').certificate, root('B').certificate)), keyFile: await file('') }),
      says: /exactly one certificate/,
    },
    'a leaf as the root': {
      files: async () => {
        const ca = root('Real');
        const { spki, spiffeId, notBefore, notAfter, spkiSha256 } = signingRequest(trustDomain);
        assert.notEqual(spkiSha256, '');
        const { der: leaf } = await createLeafIssuer({ certificate: ca.certificate, signer: localSigner(ca.key.privateKey) }).issue({
          spki,
          spiffeId,
          notBefore,
          notAfter,
        });
        return { rootFile: await file(pem(leaf)), keyFile: await file(privateKeyPem(ca.key.privateKey)) };
      },
      says: /not self-signed/,
    },
    'an intermediate as the root': {
      files: async () => {
        const issuing = await intermediate(root('Above'));
        return { rootFile: await file(pem(issuing.certificate)), keyFile: await file(privateKeyPem(issuing.key.privateKey)) };
      },
      says: /not self-signed.*intermediateFile/,
    },
    'an expired root': {
      files: async () => {
        const ca = root('Old', { notBefore: start - 10 * day, notAfter: start - day });
        return { rootFile: await file(pem(ca.certificate)), keyFile: await file(privateKeyPem(ca.key.privateKey)) };
      },
      says: /ended at/,
    },
    'a root of tomorrow': {
      files: async () => {
        const ca = root('Young', { notBefore: start + day });
        return { rootFile: await file(pem(ca.certificate)), keyFile: await file(privateKeyPem(ca.key.privateKey)) };
      },
      says: /not valid before/,
    },
    'a root with a broken signature': {
      files: async () => {
        const ca = root('Broken');
        const broken = Buffer.from(ca.certificate);
        broken[broken.length - 1] = (broken[broken.length - 1] ?? 0) ^ 1;
        return { rootFile: await file(pem(broken)), keyFile: await file(privateKeyPem(ca.key.privateKey)) };
      },
      says: /signature/,
    },
    'another trust domain': {
      files: async () => {
        const ca = root('Foreign', { uri: 'spiffe://other.org' });
        return { rootFile: await file(pem(ca.certificate)), keyFile: await file(privateKeyPem(ca.key.privateKey)) };
      },
      says: /spiffe:\/\/other\.org, not of spiffe:\/\/example\.org/,
    },
    "a custodian's key that is another CA's": {
      files: async () => ({ rootFile: await file(pem(root('Mine').certificate)), signer: fakeCustodian().open() }),
      says: /a key of this process.*not the key of/,
    },
    "another CA's key": {
      files: async () => ({
        rootFile: await file(pem(root('Mine').certificate)),
        keyFile: await file(privateKeyPem(generateKeyPair().privateKey)),
      }),
      says: /not the key of/,
    },
    "the root's key with an intermediate": {
      files: async () => {
        const above = root('Online');
        const issuing = await intermediate(above);
        return {
          rootFile: await file(pem(above.certificate)),
          intermediateFile: await file(pem(issuing.certificate)),
          keyFile: await file(privateKeyPem(above.key.privateKey)),
        };
      },
      says: /not the key of .*Issuing/,
    },
    'an intermediate of another root': {
      files: async () => {
        const issuing = await intermediate(root('Other'));
        return {
          rootFile: await file(pem(root('This').certificate)),
          intermediateFile: await file(pem(issuing.certificate)),
          keyFile: await file(privateKeyPem(issuing.key.privateKey)),
        };
      },
      says: /does not lead to the root/,
    },
    'the root among the intermediates': {
      files: async () => {
        const above = root('Twice');
        const issuing = await intermediate(above);
        return {
          rootFile: await file(pem(above.certificate)),
          intermediateFile: await file(pem(issuing.certificate, above.certificate)),
          keyFile: await file(privateKeyPem(issuing.key.privateKey)),
        };
      },
      says: /the root belongs into rootFile/,
    },
    'a key file without a key': {
      files: async () => ({ rootFile: await file(pem(root('K').certificate)), keyFile: await file('nothing') }),
      says: /no private key/,
    },
    'an encrypted key and no passphrase': {
      files: async () => {
        const ca = root('Locked');
        return { rootFile: await file(pem(ca.certificate)), keyFile: await file(encryptedPem(ca.key.privateKey)) };
      },
      says: /no passphrase is configured/,
      code: 'KEY_UNSEALABLE',
    },
    'an encrypted key and another passphrase': {
      files: async () => {
        const ca = root('Locked');
        return {
          rootFile: await file(pem(ca.certificate)),
          keyFile: await file(encryptedPem(ca.key.privateKey)),
          passphrase: 'wrong wrong wrong',
        };
      },
      says: /passphrase is wrong/,
      code: 'KEY_UNSEALABLE',
    },
    'an Ed25519 key': {
      files: async () => {
        const { privateKey } = generateKeyPairSync('ed25519');
        return { rootFile: await file(pem(root('Ed').certificate)), keyFile: await file(privateKeyPem(privateKey)) };
      },
      says: /a CA signs with a private key on P-256, P-384 or P-521/,
    },
  };

  for (const [mistake, { files, says, code = 'AUTHORITY_MISCONFIGURED' }] of Object.entries(mistakes)) {
    it(`refuses ${mistake}, and says so`, async () => {
      await assert.rejects(
        async () => open(await files()),
        (error) => {
          assert.ok(error instanceof SignetError, String(error));
          assert.equal(error.code, code);
          assert.match(error.message, says);
          assert.doesNotMatch(error.message, /wrong wrong wrong/);
          return true;
        },
      );
    });
  }
});
