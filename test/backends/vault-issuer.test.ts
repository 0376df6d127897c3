import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { z } from 'zod';
import type { Authority } from '../../src/ca/authority.ts';
import { signingRequest } from '../../src/ca/conformance/authority-under-test.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { verifyChain } from '../../src/x509/chain.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { localSigner } from '../../src/x509/issuing-ca.ts';
import { generateKeyPair, sha256Hex } from '../../src/x509/keys.ts';
import { createLeafIssuer } from '../../src/x509/leaf.ts';
import { baoPki } from '../support/engines/openbao-pki.ts';
import type { BaoPki } from '../support/engines/openbao-pki.ts';
import { eventually } from '../support/eventually.ts';
import { failureOf } from '../support/failure.ts';
import { recordingLog } from '../support/recording-log.ts';
import { checkSigned, signingPolicy, vaultTrustDomain, vaultWorld } from '../support/vault-world.ts';
import type { VaultWorld } from '../support/vault-world.ts';

const never = new AbortController().signal;
const hourMs = 3_600_000;
const tokenOf = (auth: Readonly<Record<string, unknown>>): string => z.string().parse(auth['client_token']);
const certificateOf = (data: Readonly<Record<string, unknown>>): string => z.string().parse(data['certificate']);

describe('the issuers of a real OpenBao', () => {
  let world: VaultWorld;
  let pki: BaoPki;
  let login: object;
  before(async () => {
    world = await vaultWorld();
    pki = await baoPki(world.bao, { trustDomain: vaultTrustDomain });
    login = { type: 'token', tokenFile: await world.put('token', world.bao.rootToken) };
  });
  after(() => world[Symbol.asyncDispose]());

  async function keyIdSigning(authority: Authority): Promise<string> {
    const asked = signingRequest(vaultTrustDomain);
    const signed = await authority.sign(asked, never);
    await checkSigned(authority, asked, signed);
    return signed.issuerKeyId;
  }

  it('certify an intermediate of ours: path length 0, our trust domain as its only name, and leaves below it verify', async () => {
    const policy = `${signingPolicy}\npath "pki-root/issuer/+/sign-intermediate" { capabilities = ["update"] }
path "pki-root/issuer/default" { capabilities = ["read"] }`;
    await world.bao.api('POST', 'sys/policies/acl/upstream', { policy });
    const token = tokenOf(await world.bao.api('POST', 'auth/token/create', { policies: ['upstream'] }));
    const tokenFile = await world.put('upstream-token', token);
    const authority = await world.open({ mount: 'pki-root', login: { type: 'token', tokenFile } });
    const key = generateKeyPair();
    const notAfter = Math.floor(Date.now() / 1000) * 1000 + 48 * hourMs;
    // Whatever else its request says, it gets what was asked for here.
    const csr = createCsr(key, ['spiffe://elsewhere.example', `spiffe://${vaultTrustDomain}`]);
    const asked = { csr, spkiSha256: sha256Hex(key.spki), commonName: 'Signet intermediate', notAfter };
    const signed = await authority.signIntermediate?.(asked, never);
    assert.ok(signed);
    const [der] = signed.certificates;
    const intermediate = parseCertificate(der);
    assert.deepEqual(
      [intermediate.isCa, intermediate.pathLength, intermediate.uris, intermediate.dnsNames, intermediate.otherNames],
      [true, 0, [`spiffe://${vaultTrustDomain}`], [], []],
    );
    assert.equal(intermediate.spkiSha256, asked.spkiSha256);
    assert.equal(intermediate.subjectText, 'CN=Signet intermediate');
    assert.equal(intermediate.notAfter, notAfter);
    assert.equal(signed.certificates.length, 1, 'the root is no part of it');

    const { der: leaf } = await createLeafIssuer({ certificate: der, signer: localSigner(key.privateKey) }).issue({
      spki: generateKeyPair().spki,
      spiffeId: signingRequest(vaultTrustDomain).spiffeId,
      notBefore: Math.floor(Date.now() / 1000) * 1000 - 1000,
      notAfter: Math.floor(Date.now() / 1000) * 1000 + hourMs,
    });
    verifyChain([leaf, ...signed.certificates], await authority.anchors(never), Date.now());
    await authority.close();
  });

  it('certify no intermediate for who may only sign by a role', async () => {
    await world.bao.api('POST', 'sys/policies/acl/signet', { policy: signingPolicy });
    const token = tokenOf(await world.bao.api('POST', 'auth/token/create', { policies: ['signet'] }));
    const authority = await world.open({ login: { type: 'token', tokenFile: await world.put('leaf-token', token) } });
    const key = generateKeyPair();
    const asked = { csr: createCsr(key, []), spkiSha256: '', commonName: 'x', notAfter: Date.now() + hourMs };
    const error = await failureOf(Promise.resolve(authority.signIntermediate?.(asked, never)));
    assert.equal(error.code, 'AUTHORITY_REFUSED');
    await authority.close();
  });

  it('sign nothing that the role does not let them, and say why', async () => {
    await world.bao.api('POST', 'pki/roles/narrow', {
      allowed_uri_sans: 'spiffe://example.org/ns/prod/*',
      require_cn: false,
      key_type: 'any',
    });
    const authority = await world.open({ login, role: 'narrow' });
    const error = await failureOf(authority.sign(signingRequest(vaultTrustDomain), never));
    assert.equal(error.code, 'AUTHORITY_REFUSED');
    assert.match(error.message, /^vault \(Vault at https:\/\/127.*URI Subject Alternative Names/);
    await world.bao.api('POST', 'pki/roles/named', { allowed_uri_sans: 'spiffe://example.org/*', key_type: 'any' });
    const named = await world.open({ login, role: 'named' });
    assert.equal((await failureOf(named.sign(signingRequest(vaultTrustDomain), never))).code, 'AUTHORITY_MISCONFIGURED');
    await authority.close();
    await named.close();
  });

  it('sign for a workload whose own request has other names or none: the name is ours', async () => {
    const authority = await world.open({ login });
    const key = generateKeyPair();
    for (const uris of [[], ['spiffe://example.org/ns/shop/sa/admin']]) {
      const asked = signingRequest(vaultTrustDomain, { spki: key.spki, spkiSha256: sha256Hex(key.spki), csr: () => createCsr(key, uris) });
      await checkSigned(authority, asked, await authority.sign(asked, never));
    }
    await authority.close();
  });

  it('chain to a root that is elsewhere, if its file is named', async () => {
    const { rootMount } = await baoPki(world.bao, { trustDomain: vaultTrustDomain, mount: 'alone', withRoot: false });
    const settings = { login, mount: 'alone' };
    const error = await failureOf(world.open(settings));
    assert.equal(error.code, 'AUTHORITY_MISCONFIGURED');
    assert.match(error.message, /rootFile/);

    const root = certificateOf(await world.bao.api('GET', `${rootMount}/issuer/default`));
    const other = certificateOf(await world.bao.api('GET', `${pki.rootMount}/issuer/default`));
    assert.match((await failureOf(world.open({ ...settings, rootFile: await world.put('other.pem', other) }))).message, /not below a root/);

    const authority = await world.open({ ...settings, rootFile: await world.put('root.pem', other + root) });
    await keyIdSigning(authority);
    assert.equal((await authority.anchors(never)).length, 1);
    await authority.close();
  });

  it('change: the new root is told of first, and signs when it has settled', async () => {
    const log = recordingLog();
    const authority = await world.open({ login, settle: '4s' }, log);
    const told: number[] = [];
    authority.onChange(() => told.push(Date.now()));
    const first = await keyIdSigning(authority);
    const [oldRoot] = await authority.anchors(never);
    await pki.rotate();
    await eventually('both roots', async () => (await authority.anchors(never)).length === 2 || undefined);
    const seen = Date.now();
    assert.equal(await keyIdSigning(authority), first, 'the old one signs on');
    await eventually('the new one signs', async () => (await keyIdSigning(authority)) !== first || undefined);
    // Polled each second, give or take a tenth; the health check isn't in the way of it here.
    assert.ok(Date.now() - seen > 2500, 'it was given its time');
    const roots = await authority.anchors(never);
    assert.ok(roots.length === 1 && oldRoot && !roots[0]?.equals(oldRoot));
    assert.equal(told.length, 2);
    await authority.close();
  });

  it('change to a root that nobody approved: it never signs, and all goes on as before', async () => {
    const probe = await world.open({ login });
    const [root] = await probe.anchors(never);
    await probe.close();
    assert.ok(root);
    const authority = await world.open({ login, anchors: 'pinned', approvedAnchors: [sha256Hex(root)], settle: '1s' });
    const first = await keyIdSigning(authority);
    await pki.rotate();
    await eventually('both roots', async () => (await authority.anchors(never)).length === 2 || undefined);
    for (const until = Date.now() + 4000; Date.now() < until; ) {
      await authority.health(never);
      assert.equal(await keyIdSigning(authority), first);
    }
    await authority.close();
  });

  it('go: one that is deleted gives way to its successor at the next try', async () => {
    const authority = await world.open({ login, settle: '1h' });
    const first = await keyIdSigning(authority);
    const old = z.string().parse((await world.bao.api('GET', 'pki/issuer/default'))['issuer_id']);
    await pki.rotate();
    await eventually('both roots', async () => (await authority.anchors(never)).length === 2 || undefined);
    await world.bao.api('DELETE', `pki/issuer/${old}`);
    assert.equal((await failureOf(authority.sign(signingRequest(vaultTrustDomain), never))).code, 'AUTHORITY_UNAVAILABLE');
    assert.notEqual(await keyIdSigning(authority), first);
    await authority.close();
  });
});
