import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { parse } from 'yaml';
import { z } from 'zod';
import { systemClock } from '../../src/base/clock.ts';
import { createSignerKey, openSigner } from '../../src/ca/open-signer.ts';
import type { SignerParts } from '../../src/ca/signer.ts';
import { transitSettings } from '../../src/ca/vault-transit/settings.ts';
import type { ConfigInput } from '../../src/server/config/schema.ts';
import { signRootCertificate } from '../../src/x509/ca-certificate.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { verifySvid } from '../../src/x509/chain.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { certificatesFromPem, pemEncode } from '../../src/x509/pem.ts';
import { typeForBao } from '../support/engines/openbao.ts';
import { eventually } from '../support/eventually.ts';
import { failureOf } from '../support/failure.ts';
import { pageSnippets } from '../support/page-snippets.ts';
import { signetDone } from '../support/signet.ts';
import { silentLog } from '../support/silent-log.ts';
import { vaultWorld } from '../support/vault-world.ts';
import type { VaultWorld } from '../support/vault-world.ts';
import { idOf, web, wholeServer } from '../support/whole-server.ts';
import type { WholeServer } from '../support/whole-server.ts';

const never = new AbortController().signal;
const parts: SignerParts = { setting: 'signer', clock: systemClock, log: silentLog, env: {} };

async function first(section: string, language: string): Promise<string> {
  const [block] = await pageSnippets('ca-transit.md', section, language);
  assert.ok(block !== undefined, `${section} has no block of ${language}`);
  return block;
}

describe('docs/how-to/ca-transit.md, followed to the letter', () => {
  let world: VaultWorld;
  let whole: WholeServer;

  before(async () => {
    world = await vaultWorld();
    const { bao, folder } = world;
    await bao.api('POST', 'sys/mounts/transit', { type: 'transit' });
    await typeForBao(bao, await first('1. The key', 'sh'), folder.path);
    await world.put('signet-ca.hcl', await first('2. A policy of the least that is needed', 'hcl'));
    await typeForBao(bao, await first('3. A login', 'sh'), folder.path);
    const text = (await first('4. The configuration', 'yaml'))
      .replace('https://vault.example.org:8200', bao.address)
      .replace('/etc/signet/vault-ca.pem', bao.caFile)
      .replaceAll('/etc/signet/', `${folder.path}/`);
    const config = parse(text) as Partial<ConfigInput>;
    const backend = z.object({ signer: z.unknown() }).parse(config.ca?.backends?.['own']);
    const signer = await openSigner(transitSettings.parse(backend.signer), parts, never);
    const now = Math.floor(Date.now() / 1000) * 1000;
    const dates = { notBefore: now - 3_600_000, notAfter: now + 30 * 86_400_000 };
    const root = await signRootCertificate(
      { spki: signer.spki, signer, commonName: 'Kept in Transit', organization: 'Test', uri: 'spiffe://example.org', ...dates },
      never,
    );
    await signer.close();
    await writeFile(folder.file('root.pem'), pemEncode('CERTIFICATE', root));
    whole = await wholeServer(config);
  });
  after(async () => {
    await whole[Symbol.asyncDispose]();
    await world[Symbol.asyncDispose]();
  });

  async function sign(): Promise<Buffer[]> {
    const answer = await whole.doors.workload.call('SignCertificate', { csr: createCsr(generateKeyPair(), []) }, whole.folder.bearer(web));
    return (answer as { readonly chain: Buffer[] }).chain;
  }

  it('gives certificates by the key in Transit', async () => {
    const anchors = certificatesFromPem(await readFile(`${whole.folder.data}/bundle.pem`, 'utf8'));
    for (const chain of await Promise.all(Array.from({ length: 50 }, sign)))
      assert.equal(verifySvid(chain, anchors, Date.now()).spiffeId, idOf(web));
  });

  it('makes a key, once, for who may do that', async () => {
    const { bao } = world;
    await bao.api('POST', 'sys/policies/acl/maker', { policy: (await first('1. The key', 'hcl')).replaceAll('signet-ca', 'next-ca') });
    const { client_token: token } = await bao.api('POST', 'auth/token/create', { policies: ['maker'] });
    const login = { tokenFile: await world.put('maker', z.string().parse(token)) };
    const command = (await first('1. The key', 'text'))
      .replaceAll('\\\n', ' ')
      .replace('https://vault.example.org:8200', bao.address)
      .replace('/etc/signet/vault-ca.pem', bao.caFile)
      .replace('/etc/signet', world.folder.file('next'))
      .replace('/etc/signet/operator-token', login.tokenFile)
      .replace('signet-ca', 'next-ca');
    const [name, ...words] = command.trim().split(/\s+/);
    assert.equal(name, 'signet');
    const { ca } = parse(await signetDone(words)) as { ca: { backends: { own: { root: string; signer: unknown } } } };
    const settings = transitSettings.parse(ca.backends.own.signer);
    const [root] = certificatesFromPem(await readFile(ca.backends.own.root, 'utf8'));
    const signer = await openSigner(settings, parts, never);
    assert.ok(root && parseCertificate(root).spki.equals(signer.spki));
    await signer.close();
    assert.equal((await failureOf(createSignerKey(settings, 'ec-p384', parts, never))).code, 'AUTHORITY_REFUSED');
  });

  it('lets Signet do nothing else with it or any other key', async () => {
    const { bao, folder } = world;
    const auth = await bao.api('POST', 'auth/approle/login', {
      role_id: (await readFile(folder.file('role-id'), 'utf8')).trim(),
      secret_id: (await readFile(folder.file('secret-id'), 'utf8')).trim(),
    });
    const token = z.string().parse(auth['client_token']);
    await bao.api('POST', 'transit/keys/other', { type: 'ecdsa-p256' });
    const forbidden: readonly (readonly [string, string, object?])[] = [
      ['POST', 'transit/sign/other/sha2-256', { input: 'AAAA' }],
      ['GET', 'transit/keys/other'],
      ['POST', 'transit/keys/signet-ca/rotate', {}],
      ['POST', 'transit/keys/signet-ca/config', { exportable: true }],
      ['GET', 'transit/export/signing-key/signet-ca'],
      ['GET', 'transit/backup/signet-ca'],
      ['DELETE', 'transit/keys/signet-ca'],
      ['LIST', 'transit/keys'],
    ];
    for (const [method, path, body] of forbidden)
      await assert.rejects(bao.api(method, path, body, { token }), /: 403 /, `${method} ${path}`);
  });

  it('signs on when Vault is back', async () => {
    await world.bao.stop();
    const refusal = await whole.doors.workload.refused(
      'SignCertificate',
      { csr: createCsr(generateKeyPair(), []) },
      whole.folder.bearer(web),
    );
    assert.equal(refusal.reason, 'AUTHORITY_UNAVAILABLE');
    await world.bao.start();
    await eventually('a certificate', async () => (await sign()).length === 1 || undefined);
  });
});
