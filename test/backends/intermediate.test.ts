/** An intermediate of ours below another, real Signet. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { SignetError } from '../../src/base/errors.ts';
import type { Authority } from '../../src/ca/authority.ts';
import { openIntermediateAuthority } from '../../src/ca/intermediate/intermediate-authority.ts';
import { keySealFromKey, newKeyEncryptionKey } from '../../src/ca/key-seal.ts';
import { vaultUpstreamSettings } from '../../src/ca/vault/settings.ts';
import { openVaultAuthority } from '../../src/ca/vault/vault-authority.ts';
import { openSignetUpstream } from '../../src/ca/signet/signet-upstream.ts';
import { signetUpstreamSettings } from '../../src/ca/signet/settings.ts';
import type { ConfigInput } from '../../src/server/config/schema.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { verifyChain } from '../../src/x509/chain.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair, privateKeyPem } from '../../src/x509/keys.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { authoritySuite, signingRequest } from '../support/authority-suite.ts';
import { newEngineCa } from '../support/engines/new-ca.ts';
import { baoAppRole, baoPki } from '../support/engines/openbao-pki.ts';
import { openBaoVersion, startOpenBao } from '../support/engines/openbao.ts';
import { eventually } from '../support/eventually.ts';
import { memoryCaState } from '../support/memory-ca-state.ts';
import { pageConfig, signOverApi } from '../support/page-config.ts';
import { pageSnippets } from '../support/page-snippets.ts';
import { freePort } from '../support/ports.ts';
import { silentLog } from '../support/silent-log.ts';
import { replaceFile, tempFolder } from '../support/temp.ts';
import { wholeServer } from '../support/whole-server.ts';
import type { Pod, WholeServer } from '../support/whole-server.ts';

const trustDomain = parseTrustDomain('example.org');
const never = new AbortController().signal;
/** The account of the Signet below; another one, which no rule names. */
const below: Pod = { namespace: 'signet', serviceAccount: 'signet' };
const stranger: Pod = { namespace: 'shop', serviceAccount: 'web' };
const day = 86_400_000;

const upstreamPolicy = { downstream: [{ match: '/ns/signet/sa/signet', maxTtl: '10d' }] };

/** The least that docs/how-to/ca-intermediate.md says Vault must allow. */
async function vaultPolicy(): Promise<string> {
  const [policy = ''] = await pageSnippets('ca-intermediate.md', 'Below Vault or OpenBao', 'hcl');
  return policy;
}

type Changes = Readonly<Record<string, unknown>>;

interface World extends AsyncDisposable {
  readonly whole: WholeServer;
  readonly address: string;
  readonly tokenFile: string;
  readonly caFile: string;
  settings(changes?: Changes): Changes;
}

async function upstreamWorld(settings: Partial<ConfigInput> = {}): Promise<World> {
  const address = `127.0.0.1:${String(await freePort())}`;
  const whole = await wholeServer({
    policy: upstreamPolicy,
    ...settings,
    listen: { grpc: address, http: '127.0.0.1:0', names: ['127.0.0.1', 'localhost'] },
  });
  const { temp } = whole.folder;
  const tokenFile = temp.file('token');
  const caFile = temp.file('upstream-ca.pem');
  await writeFile(tokenFile, whole.folder.token(below));
  await writeFile(caFile, await readFile(`${whole.folder.data}/server-ca.pem`));
  return {
    whole,
    address,
    tokenFile,
    caFile,
    settings: (changes = {}) => ({ type: 'signet', address, caFile, tokenFile, refresh: '300ms', ...changes }),
    [Symbol.asyncDispose]: () => whole[Symbol.asyncDispose](),
  };
}

/** A certificate of the account of the Signet below, in files, as an agent keeps them. */
async function certificateFiles({ whole }: World): Promise<{ readonly certificateFile: string; readonly keyFile: string }> {
  const key = generateKeyPair();
  const { chain } = (await whole.doors.workload.call('SignCertificate', { csr: createCsr(key, []) }, whole.folder.bearer(below))) as {
    readonly chain: readonly Buffer[];
  };
  const files = { certificateFile: whole.folder.temp.file('below.crt'), keyFile: whole.folder.temp.file('below.key') };
  await replaceFile(files.keyFile, privateKeyPem(key.privateKey));
  await replaceFile(files.certificateFile, chain.map((der) => pemEncode('CERTIFICATE', der)).join(''));
  return files;
}

authoritySuite({
  name: 'intermediate below another Signet',
  engine: 'Signet',
  trustDomain,
  intermediates: 1,
  async make() {
    const files = await tempFolder();
    const plain = await newEngineCa('plain');
    const [root, intermediate, key] = [files.file('root.pem'), files.file('intermediate.pem'), files.file('key.pem')];
    await writeFile(root, plain.rootPem);
    await writeFile(intermediate, plain.intermediatePem);
    await writeFile(key, plain.intermediateKeyPem, { mode: 0o600 });
    const backends = { builtin: { type: 'builtin' }, plain: { type: 'files', root, intermediate, key } } as const;
    const unable = { match: '/ns/signet/sa/unable', maxTtl: '10d', backend: 'plain' };
    const world = await upstreamWorld({
      ca: { backends, default: 'builtin' },
      policy: { downstream: [...upstreamPolicy.downstream, unable] },
    });
    let second: WholeServer | undefined;
    const state = memoryCaState();
    const seal = keySealFromKey(newKeyEncryptionKey());
    const open = (changes: Changes = {}, own = state): Promise<Authority> => {
      const settings = signetUpstreamSettings.parse(world.settings(changes));
      const upstream = openSignetUpstream({ name: 'below', settings, clock: systemClock, random: Math.random, log: silentLog });
      return openIntermediateAuthority({
        name: 'below',
        trustDomain,
        state: own,
        seal,
        upstream,
        lifeMs: 5 * day,
        distributionMs: 1000,
        mayTrust: () => true,
        clock: systemClock,
        random: Math.random,
        log: silentLog,
      });
    };
    return {
      open: () => open(),
      faults: {
        async openRefused() {
          const tokenFile = world.whole.folder.temp.file('stranger');
          await writeFile(tokenFile, world.whole.folder.token(stranger));
          return open({ tokenFile }, memoryCaState());
        },
        async openMisconfigured() {
          const tokenFile = world.whole.folder.temp.file('unable');
          await writeFile(tokenFile, world.whole.folder.token({ namespace: 'signet', serviceAccount: 'unable' }));
          return open({ tokenFile }, memoryCaState());
        },
        async rotate() {
          // An upstream that was set up anew, with the old root still trusted.
          const { folder } = world.whole;
          const oldRoot = folder.temp.file('old-root.pem');
          await writeFile(oldRoot, await readFile(`${folder.data}/bundle.pem`));
          await world.whole.stop();
          second = await wholeServer({
            policy: upstreamPolicy,
            listen: { grpc: world.address, http: '127.0.0.1:0', names: ['127.0.0.1', 'localhost'] },
            identity: { issuers: [{ id: 'cluster', issuer: 'https://kubernetes.example', jwks: folder.jwksFile, allow: ['**'] }] },
            ca: { trustedRoots: [oldRoot] },
          });
          await replaceFile(world.caFile, await readFile(`${second.folder.data}/server-ca.pem`, 'utf8'));
        },
      },
      async dispose() {
        await second?.[Symbol.asyncDispose]();
        await world[Symbol.asyncDispose]();
        await files[Symbol.asyncDispose]();
      },
    };
  },
});

authoritySuite({
  name: 'intermediate below Vault',
  engine: `OpenBao ${openBaoVersion}`,
  trustDomain,
  // Ours, and the one that Vault signs it by.
  intermediates: 2,
  async make() {
    const bao = await startOpenBao();
    const pki = await baoPki(bao, { trustDomain });
    const folder = await tempFolder();
    // Allowed, but there is no such issuer: else Vault would say no before it looks.
    const policy = `${await vaultPolicy()}path "pki/issuer/none-such" { capabilities = ["read"] }\n`;
    const { roleId, secretId } = await baoAppRole(bao, { policy, settings: { token_ttl: '4s', token_max_ttl: '10s' } });
    for (const [name, content] of Object.entries({ roleId, secretId, wrong: '11111111-1111-4111-8111-111111111111' }))
      await writeFile(folder.file(name), content, { mode: 0o600 });
    const state = memoryCaState();
    const seal = keySealFromKey(newKeyEncryptionKey());
    const open = async (changes: Changes = {}, own = state): Promise<Authority> => {
      const login = { type: 'approle', roleIdFile: folder.file('roleId'), secretIdFile: folder.file('secretId') };
      const settings = vaultUpstreamSettings.parse({
        type: 'vault',
        address: bao.address,
        caFile: bao.caFile,
        poll: '1s',
        settle: '1s',
        login,
        ...changes,
      });
      const { signIntermediate, ...vault } = await openVaultAuthority({
        name: 'below',
        trustDomain,
        settings,
        clock: systemClock,
        log: silentLog,
      });
      assert.ok(signIntermediate);
      return openIntermediateAuthority({
        ...{ name: 'below', trustDomain, state: own, seal, lifeMs: 5 * day, distributionMs: 1000, mayTrust: () => true },
        upstream: { ...vault, signIntermediate, forLeavesOnly: true },
        clock: systemClock,
        random: Math.random,
        log: silentLog,
      });
    };
    return {
      open: () => open(),
      faults: {
        openRefused() {
          const login = { type: 'approle', roleIdFile: folder.file('roleId'), secretIdFile: folder.file('wrong') };
          return open({ login }, memoryCaState());
        },
        openMisconfigured: () => open({ issuer: 'none-such' }, memoryCaState()),
        rotate: pki.rotate,
      },
      async dispose() {
        await bao[Symbol.asyncDispose]();
        await folder[Symbol.asyncDispose]();
      },
    };
  },
});

describe('a Signet below another', () => {
  let world: World;
  before(async () => {
    world = await upstreamWorld(await pageConfig('ca-intermediate.md', 'Below another Signet', {}));
  });
  after(() => world[Symbol.asyncDispose]());

  const told = (): Record<string, string> => ({
    'signet.central.example.org:8443': world.address,
    '/etc/signet/upstream-ca.pem': world.caFile,
    '/var/run/secrets/tokens/signet': world.tokenFile,
  });

  it('configured as the page says, issues what peers of the one above trust; and goes on without it', async () => {
    await using lower = await wholeServer(await pageConfig('ca-intermediate.md', 'Below another Signet', told(), 1));
    const first = await signOverApi(lower);
    const above = (await world.whole.doors.workload.call('GetX509Bundle', {}, world.whole.folder.bearer(stranger))) as {
      readonly anchors: readonly Buffer[];
    };
    verifyChain(first.chain, above.anchors, Date.now());
    assert.equal(first.chain.length, 2);
    assert.deepEqual(first.anchors, above.anchors, 'both publish the same roots');

    await world.whole.stop();
    assert.notEqual(parseCertificate((await signOverApi(lower)).chain[0]).serial, parseCertificate(first.chain[0]).serial);
    // Restarted while the upstream is away, as well.
    await lower.stop();
    await lower.start();
    const last = await signOverApi(lower);
    verifyChain(last.chain, above.anchors, Date.now());
    await world.whole.start();
  });

  it('below Vault, configured as the page says, goes on without it', async () => {
    const bao = await startOpenBao();
    await baoPki(bao, { trustDomain });
    const { roleId, secretId } = await baoAppRole(bao, { policy: await vaultPolicy() });
    const { temp } = world.whole.folder;
    await writeFile(temp.file('role-id'), roleId);
    await writeFile(temp.file('secret-id'), secretId);
    const config = await pageConfig('ca-intermediate.md', 'Below Vault or OpenBao', {
      'https://vault.example.org:8200': bao.address,
      '/etc/signet/vault-ca.pem': bao.caFile,
      '/etc/signet/role-id': temp.file('role-id'),
      '/etc/signet/secret-id': temp.file('secret-id'),
    });
    await using lower = await wholeServer(config);
    const first = await signOverApi(lower);
    assert.equal(first.chain.length, 3);
    verifyChain(first.chain, first.anchors, Date.now());
    await bao[Symbol.asyncDispose]();
    verifyChain((await signOverApi(lower)).chain, first.anchors, Date.now());
  });

  it('may show a certificate instead of a token, which is taken up when it is renewed', async () => {
    const files = await certificateFiles(world);
    const settings = signetUpstreamSettings.parse({ ...world.settings(), tokenFile: undefined, ...files });
    const upstream = openSignetUpstream({ name: 'below', settings, clock: systemClock, random: Math.random, log: silentLog });
    const ask = async (): Promise<string> => {
      const key = generateKeyPair();
      const request = {
        csr: createCsr(key, ['spiffe://example.org']),
        spkiSha256: key.spkiSha256,
        commonName: '',
        notAfter: Date.now() + day,
      };
      return parseCertificate((await upstream.signIntermediate(request, never)).certificates[0]).spkiSha256;
    };
    assert.match(await ask(), /^[0-9a-f]{64}$/);
    await certificateFiles(world);
    await eventually('a call by the new one', ask);
    await upstream.close();
  });

  it('says that its upstream is away, and which, when it never had an intermediate', async () => {
    const settings = signetUpstreamSettings.parse(world.settings({ address: `127.0.0.1:${String(await freePort())}` }));
    const upstream = openSignetUpstream({ name: 'below', settings, clock: systemClock, random: Math.random, log: silentLog });
    const authority = await openIntermediateAuthority({
      name: 'below',
      trustDomain,
      state: memoryCaState(),
      seal: keySealFromKey(newKeyEncryptionKey()),
      upstream,
      lifeMs: day,
      distributionMs: 1000,
      mayTrust: () => true,
      clock: systemClock,
      random: Math.random,
      log: silentLog,
    });
    const failure = await authority
      .sign(signingRequest(trustDomain), AbortSignal.timeout(10_000))
      .catch((error: unknown) => SignetError.from(error));
    assert.ok(failure instanceof SignetError);
    assert.equal(failure.code, 'AUTHORITY_UNAVAILABLE');
    assert.match(failure.message, /below \(the upstream Signet at 127\.0\.0\.1:/);
    await authority.close();
  });
});
