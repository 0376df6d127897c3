import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { systemClock } from '../../src/base/clock.ts';
import { createSignerKey } from '../../src/ca/open-signer.ts';
import type { Signer } from '../../src/ca/signer.ts';
import type { SignerSettings } from '../../src/ca/signer-settings.ts';
import type { ConfigInput } from '../../src/server/config/schema.ts';
import { createIntermediateCertificate, createRootCertificate } from '../../src/x509/ca-certificate.ts';
import { verifySvid } from '../../src/x509/chain.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { localSigner } from '../../src/x509/issuing-ca.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { certificatesFromPem, pemEncode } from '../../src/x509/pem.ts';
import { readFile } from 'node:fs/promises';
import { emulatedGoogle } from '../support/emulated-google.ts';
import { fakeAwsKms, fakeRegion } from '../support/fake-aws-kms.ts';
import { fakeAwsPca } from '../support/fake-aws-pca.ts';
import { pageSnippets } from '../support/page-snippets.ts';
import { silentLog } from '../support/silent-log.ts';
import { tempFolder } from '../support/temp.ts';
import { idOf, web, wholeServer } from '../support/whole-server.ts';

const never = new AbortController().signal;
const hour = 3_600_000;

/** The configuration of a section of a page, with what only a test's cloud knows put in for what the page says. */
async function configuration(page: string, section: string, instead: Readonly<Record<string, string>>): Promise<Partial<ConfigInput>> {
  const [block] = await pageSnippets(page, section, 'yaml');
  assert.ok(block !== undefined, `${section} of ${page} has no configuration`);
  const text = Object.entries(instead).reduce((so, [said, given]) => {
    assert.ok(so.includes(said), `${section} of ${page} does not say ${said}`);
    return so.replaceAll(said, given);
  }, block);
  return parse(text) as Partial<ConfigInput>;
}

/** A whole server on that configuration gives a workload a certificate that verifies with its own bundle. */
async function issues(settings: Partial<ConfigInput>): Promise<void> {
  await using whole = await wholeServer(settings);
  const request = { csr: createCsr(generateKeyPair(), []) };
  const { chain } = (await whole.doors.workload.call('SignCertificate', request, whole.folder.bearer(web))) as { readonly chain: Buffer[] };
  const anchors = certificatesFromPem(await readFile(`${whole.folder.data}/bundle.pem`, 'utf8'));
  assert.equal(verifySvid(chain, anchors, Date.now()).spiffeId, idOf(web));
}

/** A root of somebody's, and an intermediate whose key the custodian has just made. */
async function madeCa(folder: string, signer: Signer): Promise<void> {
  const rootKey = generateKeyPair();
  const dates = { notBefore: Date.now() - hour, notAfter: Date.now() + 100 * hour };
  const subject = { organization: 'example.org', uri: 'spiffe://example.org', ...dates };
  const root = createRootCertificate({ ...subject, notAfter: dates.notAfter + hour, key: rootKey, commonName: 'Root' });
  const issuer = { certificate: root, signer: localSigner(rootKey.privateKey) };
  const intermediate = await createIntermediateCertificate({ ...subject, issuer, spki: signer.spki, commonName: 'Signet', pathLength: 0 });
  await writeFile(`${folder}/root.pem`, pemEncode('CERTIFICATE', root));
  await writeFile(`${folder}/intermediate.pem`, pemEncode('CERTIFICATE', intermediate));
}

const made = async (folder: string, settings: SignerSettings): Promise<SignerSettings> => {
  const parts = { setting: 'ca init', clock: systemClock, log: silentLog, env: process.env };
  const key = await createSignerKey(settings, 'ec-p256', parts, never);
  await madeCa(folder, key.signer);
  await key.signer.close();
  return key.settings;
};

describe('the configurations of docs/how-to/ca-aws.md and ca-google.md, each run by a whole server', () => {
  it('AWS Private CA', async () => {
    await using pca = await fakeAwsPca();
    Object.assign(process.env, pca.environment());
    const said = 'arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/0d9c1f7e-5b1e-4c66-9f0d-3a3f7f6f2b11';
    const instead = { [said]: `${pca.certificateAuthority}\n      endpoint: ${pca.url}` };
    await issues(await configuration('ca-aws.md', 'AWS Private CA', instead));
    assert.deepEqual([...new Set(pca.calls)].sort(), [
      'ACMPrivateCA.GetCertificate',
      'ACMPrivateCA.GetCertificateAuthorityCertificate',
      'ACMPrivateCA.IssueCertificate',
    ]);
  });

  it('a key in AWS KMS', async () => {
    await using kms = await fakeAwsKms();
    await using folder = await tempFolder();
    Object.assign(process.env, kms.environment());
    const key = await made(folder.path, { type: 'aws-kms', region: fakeRegion, endpoint: kms.url });
    assert.ok(key.type === 'aws-kms' && key.key !== undefined);
    const said = 'arn:aws:kms:eu-west-1:123456789012:key/1f0f6a52-7c9f-4a0b-8a52-7f1f5a9f2c10';
    const instead = { [said]: `${key.key}\n        endpoint: ${kms.url}`, '/etc/signet/': `${folder.path}/` };
    kms.calls.length = 0;
    await issues(await configuration('ca-aws.md', 'A key in AWS KMS', instead));
    assert.deepEqual([...new Set(kms.calls)].sort(), ['TrentService.GetPublicKey', 'TrentService.Sign']);
  });

  it("Google's Certificate Authority Service", async () => {
    await using google = await emulatedGoogle();
    const said = 'projects/corp-pki/locations/europe-west1/caPools/workloads';
    const more = `endpoint: ${google.url}\n      credentialsFile: ${await google.credentialsFile()}`;
    await issues(await configuration('ca-google.md', 'Certificate Authority Service', { [said]: `${google.caPool}\n      ${more}` }));
  });

  it('a key in Google Cloud KMS', async () => {
    await using google = await emulatedGoogle();
    await using folder = await tempFolder();
    const keyVersion = `${google.keyRing}/cryptoKeys/ca/cryptoKeyVersions/1`;
    const credentialsFile = await google.credentialsFile();
    await made(folder.path, { type: 'gcp-kms', keyVersion, credentialsFile, endpoint: google.url });
    const said = 'projects/corp-pki/locations/europe-west1/keyRings/signet/cryptoKeys/ca/cryptoKeyVersions/1';
    const more = `endpoint: ${google.url}\n        credentialsFile: ${credentialsFile}`;
    const instead = { [said]: `${keyVersion}\n        ${more}`, '/etc/signet/': `${folder.path}/` };
    await issues(await configuration('ca-google.md', 'A key in Cloud KMS', instead));
  });
});
