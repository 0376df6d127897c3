import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { parse } from 'yaml';
import { z } from 'zod';
import type { ConfigInput } from '../../src/server/config/schema.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { verifySvid } from '../../src/x509/chain.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { certificatesFromPem } from '../../src/x509/pem.ts';
import { baoPki } from '../support/engines/openbao-pki.ts';
import type { BaoPki } from '../support/engines/openbao-pki.ts';
import { startOpenBao, typeForBao } from '../support/engines/openbao.ts';
import type { OpenBao } from '../support/engines/openbao.ts';
import { eventually } from '../support/eventually.ts';
import { pageSnippets } from '../support/page-snippets.ts';
import { tempFolder } from '../support/temp.ts';
import type { TempFolder } from '../support/temp.ts';
import { idOf, web, wholeServer } from '../support/whole-server.ts';
import type { WholeServer } from '../support/whole-server.ts';
import { readFile } from 'node:fs/promises';

const page = 'ca-vault.md';
const issuers = z.object({ default: z.string() });

async function first(section: string, language: string): Promise<string> {
  const [block] = await pageSnippets(page, section, language);
  assert.ok(block !== undefined, `${section} has no block of ${language}`);
  return block;
}

describe('docs/how-to/ca-vault.md, followed to the letter', () => {
  let bao: OpenBao;
  let pki: BaoPki;
  let folder: TempFolder;
  let whole: WholeServer;

  before(async () => {
    bao = await startOpenBao();
    folder = await tempFolder();
    pki = await baoPki(bao, { trustDomain: 'example.org' });
    await bao.api('DELETE', 'pki/roles/signet');
    await typeForBao(bao, await first('1. A role that signs SPIFFE names', 'sh'), folder.path);
    await writeFile(folder.file('signet.hcl'), await first('2. A policy of the least that is needed', 'hcl'));
    await typeForBao(bao, await first('3. A login', 'sh'), folder.path);
    const text = (await first('4. The configuration', 'yaml'))
      .replace('https://vault.example.org:8200', bao.address)
      .replace('/etc/signet/vault-ca.pem', bao.caFile)
      .replaceAll('/etc/signet/', `${folder.path}/`)
      .replace('      role: signet', '      role: signet\n      poll: 1s\n      settle: 2s');
    whole = await wholeServer(parse(text) as Partial<ConfigInput>);
  });
  after(async () => {
    await whole[Symbol.asyncDispose]();
    await bao[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  async function sign(): Promise<readonly Buffer[]> {
    const request = { csr: createCsr(generateKeyPair(), []) };
    return ((await whole.doors.workload.call('SignCertificate', request, whole.folder.bearer(web))) as { readonly chain: Buffer[] }).chain;
  }
  const bundle = async (): Promise<Buffer[]> => certificatesFromPem(await readFile(`${whole.folder.data}/bundle.pem`, 'utf8'));

  it('gives certificates that chain to the root in the bundle', async () => {
    const chain = await sign();
    assert.equal(chain.length, 2);
    assert.equal(verifySvid(chain, await bundle(), Date.now()).spiffeId, idOf(web));
    assert.equal(parseCertificate(chain[1] ?? Buffer.alloc(0)).subjectText.includes('Intermediate 1'), true);
  });

  it('lets Signet do nothing else', async () => {
    const policies = await bao.api('GET', 'auth/approle/role/signet');
    assert.deepEqual(policies['token_policies'], ['signet']);
    const auth = await bao.api('POST', 'auth/approle/login', {
      role_id: (await readFile(folder.file('role-id'), 'utf8')).trim(),
      secret_id: (await readFile(folder.file('secret-id'), 'utf8')).trim(),
    });
    const token = z.string().parse(auth['client_token']);
    await bao.api('POST', 'pki/roles/other', { allow_any_name: true });
    const forbidden: readonly (readonly [string, string, object?])[] = [
      ['POST', 'pki/issuer/default/sign/other', { csr: '' }],
      ['POST', 'pki/sign/signet', { csr: '' }],
      ['POST', 'pki/issue/signet', { common_name: 'a' }],
      ['POST', 'pki/issuer/default/sign-intermediate', { csr: '' }],
      ['POST', 'pki/issuer/default/sign-verbatim', { csr: '' }],
      ['POST', 'pki/roles/signet', { allow_any_name: true }],
      ['POST', 'pki/config/issuers', { default: 'x' }],
      ['POST', 'pki/revoke', { serial_number: '00' }],
      ['LIST', 'pki/roles'],
      ['GET', 'pki-root/issuer/default'],
      ['GET', 'sys/policies/acl/signet'],
      ['POST', 'auth/approle/role/signet/secret-id', {}],
    ];
    for (const [method, path, body] of forbidden)
      await assert.rejects(bao.api(method, path, body, { token }), /: 403 /, `${method} ${path}`);
    await bao.api('GET', 'pki/issuer/default', undefined, { token });
  });

  it('follows its CA to another root: first the bundle, then the certificates', async () => {
    const [, before] = await sign();
    const old = issuers.parse(await bao.api('GET', 'pki/config/issuers')).default;
    await pki.rotate();
    const latest = issuers.parse(await bao.api('GET', 'pki/config/issuers')).default;
    // As on the page: the new issuer gets a name, and that is made the default.
    await bao.api('POST', 'pki/config/issuers', { default: old });
    await bao.api('POST', `pki/issuer/${latest}`, { issuer_name: 'next' });
    await typeForBao(bao, await first('When its CA changes', 'sh'), folder.path);
    let seenBoth = false;
    await eventually('a certificate under the new root', async () => {
      const chain = await sign();
      const anchors = await bundle();
      verifySvid(chain, anchors, Date.now());
      if (anchors.length > 1 && before && chain[1]?.equals(before)) seenBoth = true;
      return before && !chain[1]?.equals(before) ? true : undefined;
    });
    assert.ok(seenBoth, 'the new root was in the bundle while the old one signed');
  });

  it('says so when Vault is sealed, and signs on as soon as it is not', async () => {
    await bao.stop();
    const key = generateKeyPair();
    const refusal = await whole.doors.workload.refused('SignCertificate', { csr: createCsr(key, []) }, whole.folder.bearer(web));
    assert.equal(refusal.reason, 'AUTHORITY_UNAVAILABLE');
    await bao.start();
    await eventually('a certificate', async () => (await sign()).length === 2 || undefined);
  });
});
