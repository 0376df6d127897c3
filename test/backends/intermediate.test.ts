/** An intermediate of ours below another, real Signet. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { SignetError } from '../../src/base/errors.ts';
import type { Authority } from '../../src/ca/authority.ts';
import { openIntermediateAuthority } from '../../src/ca/intermediate/intermediate-authority.ts';
import { keySealFromKey, newKeyEncryptionKey } from '../../src/ca/key-seal.ts';
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
import { eventually } from '../support/eventually.ts';
import { memoryCaState } from '../support/memory-ca-state.ts';
import { pageConfig, signOverApi } from '../support/page-config.ts';
import { freePort } from '../support/ports.ts';
import { silentLog } from '../support/silent-log.ts';
import { replaceFile } from '../support/temp.ts';
import { wholeServer } from '../support/whole-server.ts';
import type { Pod, WholeServer } from '../support/whole-server.ts';

const trustDomain = parseTrustDomain('example.org');
const never = new AbortController().signal;
/** The account of the Signet below; another one, which no rule names. */
const below: Pod = { namespace: 'signet', serviceAccount: 'signet' };
const stranger: Pod = { namespace: 'shop', serviceAccount: 'web' };
const day = 86_400_000;

const upstreamPolicy = { downstream: [{ match: '/ns/signet/sa/signet', maxTtl: '10d' }] };

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
    const world = await upstreamWorld();
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
      },
    };
  },
});

describe('a Signet below another', () => {
  let world: World;
  before(async () => {
    world = await upstreamWorld(await pageConfig('ca-intermediate.md', {}, 0));
  });
  after(() => world[Symbol.asyncDispose]());

  const told = (): Record<string, string> => ({
    'signet.central.example.org:8443': world.address,
    '/etc/signet/upstream-ca.pem': world.caFile,
    '/var/run/secrets/tokens/signet': world.tokenFile,
  });

  it('configured as the page says, issues what peers of the one above trust; and goes on without it', async () => {
    await using lower = await wholeServer(await pageConfig('ca-intermediate.md', told(), 1));
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
