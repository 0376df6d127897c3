import assert from 'node:assert/strict';
import { createPublicKey, hash, verify } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { awsKms } from '../../src/ca/aws-kms/aws-kms-signer.ts';
import { openAwsPcaAuthority } from '../../src/ca/aws-pca/aws-pca-authority.ts';
import { openAwsClient } from '../../src/ca/aws/aws-client.ts';
import type { AwsClient } from '../../src/ca/aws/aws-client.ts';
import type { SignerParts } from '../../src/ca/signer.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { startMoto } from '../support/engines/moto.ts';
import type { Moto } from '../support/engines/moto.ts';
import { signingRequest } from '../support/authority-suite.ts';
import { silentLog } from '../support/silent-log.ts';

const region = 'eu-west-1';
const never = new AbortController().signal;
const common = { clock: systemClock, random: Math.random, log: silentLog };
const parts: SignerParts = { setting: 'ca.backends.aws.signer', clock: systemClock, log: silentLog, env: {} };

describe('AWS as moto emulates it: the sequence of calls and their forms', () => {
  let moto: Moto;
  before(async () => {
    moto = await startMoto();
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'testing', AWS_SECRET_ACCESS_KEY: 'testing' });
  });
  after(() => moto[Symbol.asyncDispose]());

  it('KMS makes a key, gives its public half and signs; what moto signs is the digest of the digest', async () => {
    const wish = { type: 'aws-kms', region, endpoint: moto.url } as const;
    const { signer, settings } = await awsKms.createKey(wish, 'ec-p256', parts, never);
    assert.match(settings.key ?? '', /^arn:aws:kms:eu-west-1:\d{12}:key\//);
    const tbs = Buffer.from('to be signed');
    const signature = await signer.sign(tbs, never);
    const key = createPublicKey({ key: signer.spki, format: 'der', type: 'spki' });
    assert.ok(verify('sha256', hash('sha256', tbs, 'buffer'), key, signature));
    assert.equal((await signer.health(never)).canSign, true);
    await signer.close();
    await assert.rejects(awsKms.createKey(settings, 'ec-p256', parts, never), { code: 'AUTHORITY_REFUSED' });
    const missing = { ...settings, key: `arn:aws:kms:${region}:123456789012:key/00000000-0000-4000-8000-000000000000` };
    await assert.rejects(awsKms.open(missing, parts, never), { code: 'AUTHORITY_MISCONFIGURED' });
  });

  it('Private CA takes the request, gives the certificate for its key and name, and its own as the anchor', async () => {
    const certificateAuthority = await rootCa(moto.url);
    const authority = await openAwsPcaAuthority({ name: 'aws', certificateAuthority, endpoint: moto.url, ...common });
    const request = signingRequest(parseTrustDomain('example.org'));
    const signed = await authority.sign(request, never);
    const leaf = parseCertificate(signed.certificates[0]);
    assert.equal(leaf.spkiSha256, request.spkiSha256);
    assert.deepEqual(leaf.uris, [request.spiffeId]);
    // A root signs: there is nothing between the leaf and the anchor.
    assert.equal(signed.certificates.length, 1);
    assert.equal((await authority.anchors(never)).length, 1);
    assert.equal((await authority.health(never)).canSign, true);
    await authority.close();
  });

  it('a CA that is not there is misconfigured', async () => {
    const certificateAuthority = `arn:aws:acm-pca:${region}:123456789012:certificate-authority/00000000-0000-4000-8000-000000000000`;
    await assert.rejects(openAwsPcaAuthority({ name: 'aws', certificateAuthority, endpoint: moto.url, ...common }), {
      code: 'AUTHORITY_MISCONFIGURED',
    });
  });
});

/** As an administrator makes one: CreateCertificateAuthority, its own CSR signed by itself, imported. */
async function rootCa(endpoint: string): Promise<string> {
  const place = { partition: 'aws', region };
  const aws = await openAwsClient({ service: 'acm-pca', place, resource: 'a new CA', needed: 'a test', endpoint, ...common });
  try {
    const call = (action: string, body: object): Promise<Record<string, string>> => called(aws, action, body);
    const { CertificateAuthorityArn = '' } = await call('CreateCertificateAuthority', {
      CertificateAuthorityConfiguration: { KeyAlgorithm: 'RSA_2048', SigningAlgorithm: 'SHA256WITHRSA', Subject: { CommonName: 'Root' } },
      CertificateAuthorityType: 'ROOT',
    });
    const { Csr = '' } = await call('GetCertificateAuthorityCsr', { CertificateAuthorityArn });
    const { CertificateArn } = await call('IssueCertificate', {
      CertificateAuthorityArn,
      Csr: Buffer.from(Csr).toString('base64'),
      SigningAlgorithm: 'SHA256WITHRSA',
      TemplateArn: 'arn:aws:acm-pca:::template/RootCACertificate/V1',
      Validity: { Type: 'YEARS', Value: 10 },
    });
    const { Certificate = '' } = await call('GetCertificate', { CertificateAuthorityArn, CertificateArn });
    await call('ImportCertificateAuthorityCertificate', {
      CertificateAuthorityArn,
      Certificate: Buffer.from(Certificate).toString('base64'),
    });
    return CertificateAuthorityArn;
  } finally {
    await aws.close();
  }
}

async function called(aws: AwsClient, action: string, body: object): Promise<Record<string, string>> {
  return ((await aws.call(action, body, never)) ?? {}) as Record<string, string>;
}
