import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { parseSpiffeId } from '../../src/spiffe/id.ts';
import { createIntermediateCertificate, createRootCertificate } from '../../src/x509/ca-certificate.ts';
import { sequence } from '../../src/x509/der-writer.ts';
import { basicConstraintsExtension, keyUsageExtension, subjectKeyIdExtension } from '../../src/x509/extensions.ts';
import { type IssuingCa, localSigner } from '../../src/x509/issuing-ca.ts';
import { generateKeyPair, spkiOf } from '../../src/x509/keys.ts';
import { createLeafIssuer } from '../../src/x509/leaf.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { createServerCertificate } from '../../src/x509/server-certificate.ts';
import { altNames, day, foreignKey, forgeCertificate, hour } from '../support/forge.ts';
import { pkilint, pkilintPair, zlint } from '../support/linters.ts';
import { runProgram } from '../support/process.ts';
import { type TempFolder, tempFolder } from '../support/temp.ts';

// The linters and OpenSSL judge by the clock of the machine.
const now = Math.floor(Date.now() / 1000) * 1000;
const td = 'spiffe://example.org';
const web = parseSpiffeId(`${td}/ns/shop/sa/web`);
/** pkilint's URL check knows the schemes of the web only, so every SPIFFE ID has this one; our own rule judges those. */
const expectedCodes = ['pkix.invalid_uri_syntax'];

interface Case {
  readonly name: string;
  readonly certificate: Buffer;
  /** CAs above it, its issuer first, the root last; none for a root. */
  readonly issuers: readonly Buffer[];
}

let folder: TempFolder;
before(async () => {
  folder = await tempFolder();
});
after(async () => {
  await folder[Symbol.asyncDispose]();
});

async function written(name: string, certificates: readonly Buffer[]): Promise<string> {
  const file = folder.file(`${name.replaceAll(/[^a-z0-9]+/gi, '-')}.pem`);
  await writeFile(file, certificates.map((der) => pemEncode('CERTIFICATE', der)).join(''));
  return file;
}

async function everyKind(): Promise<Case[]> {
  const cases: Case[] = [];
  const rootKeys = [
    ['P-256', generateKeyPair()],
    ['P-384', generateKeyPair('ec-p384')],
  ] as const;
  for (const [curve, key] of rootKeys) {
    // The second lives past 2050, where dates change their form.
    const ends = curve === 'P-256' ? now + 3650 * day : Date.UTC(2055, 0, 1);
    const dates = { organization: 'example.org', notBefore: now - hour, uri: td };
    const root = createRootCertificate({ ...dates, key, commonName: `Signet root ${curve}`, notAfter: ends });
    const rootCa = { certificate: root, signer: localSigner(key.privateKey) };
    const caKey = generateKeyPair(curve === 'P-256' ? 'ec-p256' : 'ec-p384');
    const below = { ...dates, commonName: `Signet intermediate ${curve}`, notAfter: ends, pathLength: 0 };
    const intermediate = await createIntermediateCertificate({ ...below, issuer: rootCa, spki: caKey.spki });
    const rsaKey = foreignKey('rsa-2048');
    const rsaBelow = await createIntermediateCertificate({
      ...below,
      commonName: `Signet RSA ${curve}`,
      issuer: rootCa,
      spki: spkiOf(rsaKey),
    });
    const serving = await createServerCertificate({
      ca: rootCa,
      spki: generateKeyPair().spki,
      dnsNames: ['signet.example.org'],
      ipAddresses: ['127.0.0.1', '::1'],
      uris: [`${td}/signet/server`],
      notBefore: now,
      notAfter: now + 30 * day,
    });
    cases.push({ name: `root ${curve}`, certificate: root, issuers: [] });
    cases.push({ name: `intermediate ${curve}`, certificate: intermediate, issuers: [root] });
    cases.push({ name: `RSA intermediate under ${curve}`, certificate: rsaBelow, issuers: [root] });
    cases.push({ name: `serving ${curve}`, certificate: serving, issuers: [root] });
    const issuing: readonly (readonly [string, IssuingCa])[] = [
      [curve, { certificate: intermediate, signer: localSigner(caKey.privateKey) }],
      ['RSA', { certificate: rsaBelow, signer: localSigner(rsaKey) }],
    ];
    for (const [kind, ca] of issuing) {
      for (const spki of [generateKeyPair().spki, generateKeyPair('ec-p384').spki, spkiOf(rsaKey)]) {
        const notAfter = curve === 'P-256' ? now + 12 * hour : ends;
        const { der: certificate } = await createLeafIssuer(ca).issue({ spki, spiffeId: web, notBefore: now - 120_000, notAfter });
        cases.push({ name: `leaf ${String(cases.length)} of ${kind} under ${curve}`, certificate, issuers: [ca.certificate, root] });
      }
    }
  }
  return cases;
}

async function opensslVerify({ name, certificate, issuers }: Case): Promise<{ code: number | null; said: string }> {
  const root = issuers.at(-1) ?? certificate;
  const untrusted = issuers.length > 1 ? ['-untrusted', await written(`${name} untrusted`, issuers.slice(0, -1))] : [];
  const args = [
    'verify',
    '-x509_strict',
    '-purpose',
    issuers.length === 0 ? 'any' : name.startsWith('leaf') ? 'sslclient' : 'any',
    '-CAfile',
  ];
  const ran = await runProgram('openssl', [
    ...args,
    await written(`${name} root`, [root]),
    ...untrusted,
    await written(name, [certificate]),
  ]);
  return { code: ran.code, said: ran.stdout + ran.stderr };
}

describe('certificates of every profile', () => {
  let cases: Case[];
  before(async () => {
    cases = await everyKind();
    assert.equal(cases.length, 20);
  });

  test('are good to OpenSSL in its strict mode', async () => {
    for (const one of cases) {
      const { code, said } = await opensslVerify(one);
      assert.equal(code, 0, `${one.name}: ${said}`);
    }
  });

  test('are without a finding by zlint', async () => {
    for (const { name, certificate } of cases) assert.deepEqual(await zlint(await written(name, [certificate])), [], name);
  });

  test('are without a finding by pkilint, but the one that it has for every SPIFFE ID', async () => {
    for (const { name, certificate } of cases) {
      const findings = await pkilint(await written(name, [certificate]));
      assert.deepEqual(
        findings.map(({ code }) => code),
        expectedCodes,
        name,
      );
    }
  });

  test('fit their issuers by pkilint', async () => {
    for (const { name, certificate, issuers } of cases) {
      const [issuer] = issuers;
      if (issuer)
        assert.deepEqual(await pkilintPair(await written(`${name} issuer`, [issuer]), await written(name, [certificate])), [], name);
    }
  });
});

test('what OpenSSL prints of a leaf is what was asked for', async () => {
  const key = generateKeyPair();
  const root = createRootCertificate({ key, commonName: 'Root', organization: 'o', notBefore: now - hour, notAfter: now + day });
  const issuer = createLeafIssuer({ certificate: root, signer: localSigner(key.privateKey) });
  const { der: leaf } = await issuer.issue({
    spki: key.spki,
    spiffeId: web,
    notBefore: Date.UTC(2026, 0, 2, 3, 4, 5),
    notAfter: now + hour,
  });
  const { stdout } = await runProgram('openssl', ['x509', '-noout', '-text', '-in', await written('printed', [leaf])]);
  const text = stdout.replaceAll(/\s+/g, ' ');
  for (const expected of [
    'Version: 3 (0x2)',
    'Not Before: Jan 2 03:04:05 2026 GMT',
    'X509v3 Key Usage: critical Digital Signature X509v3',
    'X509v3 Extended Key Usage: TLS Web Server Authentication, TLS Web Client Authentication',
    'X509v3 Basic Constraints: critical CA:FALSE',
    `X509v3 Subject Alternative Name: critical URI:${web}`,
    `X509v3 Authority Key Identifier: ${(issuer.keyId.toUpperCase().match(/../g) ?? []).join(':')}`,
  ]) {
    assert.ok(text.includes(expected), `${expected} in ${stdout}`);
  }
});

test('all of them find fault with a poor certificate', async () => {
  const key = generateKeyPair();
  const root = createRootCertificate({ key, commonName: 'Root', organization: 'o', notBefore: now - hour, notAfter: now + day });
  const poor = forgeCertificate({
    issuerKey: generateKeyPair().privateKey,
    subject: sequence(),
    spki: key.spki,
    notBefore: now - hour,
    notAfter: now + hour,
    // Its names are not critical although its subject is empty, and it has no authority key identifier.
    extensions: [
      keyUsageExtension('digitalSignature', 'keyCertSign'),
      basicConstraintsExtension(false),
      subjectKeyIdExtension(Buffer.alloc(20)),
      altNames([[0x86, web]], false),
    ],
  });
  const file = await written('poor', [poor]);
  assert.notEqual((await opensslVerify({ name: 'leaf poor', certificate: poor, issuers: [root] })).code, 0);
  assert.ok((await zlint(file)).length > 0);
  assert.ok((await pkilint(file)).some(({ code }) => !expectedCodes.includes(code)));
  assert.ok((await pkilintPair(await written('poor root', [root]), file)).length > 0);
});
