/** smallstep's own step-ca behind the backend `step-ca`. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CompactEncrypt, FlattenedEncrypt, exportJWK, generateKeyPair } from 'jose';
import { systemClock } from '../../src/base/clock.ts';
import { SignetError } from '../../src/base/errors.ts';
import type { Authority } from '../../src/ca/authority.ts';
import { openStepCaAuthority } from '../../src/ca/step-ca/step-ca-authority.ts';
import { stepCaSettings } from '../../src/ca/step-ca/settings.ts';
import { parseTrustDomain, spiffeId } from '../../src/spiffe/id.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { createCsr, parseCsr } from '../../src/x509/csr.ts';
import { generateKeyPair as newKey, sha256Hex } from '../../src/x509/keys.ts';
import { authoritySuite, signingRequest } from '../support/authority-suite.ts';
import { startStepCa, stepCaVersion } from '../support/engines/step-ca.ts';
import type { StepCa } from '../support/engines/step-ca.ts';
import { eventually } from '../support/eventually.ts';
import { foreignCa, foreignLeaf } from '../support/openssl.ts';
import type { PemPair } from '../support/openssl.ts';
import { silentLog } from '../support/silent-log.ts';
import { pageConfig, signedUnder } from '../support/page-config.ts';
import { replaceFile, tempFolder } from '../support/temp.ts';
import type { TempFolder } from '../support/temp.ts';

const trustDomain = parseTrustDomain('example.org');
const never = new AbortController().signal;

type Changes = Readonly<Record<string, unknown>>;

interface World extends AsyncDisposable {
  readonly ca: StepCa;
  readonly folder: TempFolder;
  open(changes?: Changes): Promise<Authority>;
  /** What an X5C provisioner believes, for so long. */
  certify(lifeMs: number): Promise<void>;
}

async function stepWorld(): Promise<World> {
  const folder = await tempFolder();
  const x5cCa: PemPair = await foreignCa('Machines');
  const ca = await startStepCa({ x5cRootPem: x5cCa.certificate });
  await writeFile(folder.file('provisioner.jwk'), JSON.stringify(ca.provisionerKey), { mode: 0o600 });
  return {
    ca,
    folder,
    open(changes = {}) {
      const settings = stepCaSettings.parse({
        type: 'step-ca',
        url: ca.url,
        rootFingerprints: [ca.rootFingerprint],
        provisioner: 'signet',
        keyFile: folder.file('provisioner.jwk'),
        refresh: '300ms',
        ...changes,
      });
      return openStepCaAuthority({ name: 'step', settings, clock: systemClock, random: Math.random, log: silentLog });
    },
    async certify(lifeMs) {
      const leaf = await foreignLeaf(x5cCa, { uri: 'spiffe://example.org/signet', notAfter: Date.now() + lifeMs });
      await replaceFile(folder.file('x5c.crt'), leaf.certificate);
      await replaceFile(folder.file('x5c.key'), leaf.key);
    },
    async [Symbol.asyncDispose]() {
      await ca[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** The provisioner's key id with another key: who has no key has nothing. */
async function strangersKey({ ca, folder }: World): Promise<string> {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true });
  await writeFile(folder.file('stranger.jwk'), JSON.stringify({ ...ca.provisionerKey, ...(await exportJWK(privateKey)) }));
  return folder.file('stranger.jwk');
}

/** An operator shows the second root long before anything is signed under it; here everybody is us. */
async function rotate({ ca }: World, authority: Authority | undefined): Promise<void> {
  await ca.addRoot();
  await eventually('the second root', async () => ((await authority?.anchors(never))?.length ?? 0) > 1 || undefined);
  await ca.signUnderSecondRoot();
}

authoritySuite({
  name: 'step-ca, JWK provisioner',
  engine: `step-ca ${stepCaVersion}`,
  trustDomain,
  intermediates: 1,
  async make() {
    const world = await stepWorld();
    let opened: Authority | undefined;
    return {
      open: async () => (opened = await world.open()),
      faults: {
        outage: world.ca,
        openRefused: async () => world.open({ keyFile: await strangersKey(world) }),
        openMisconfigured: () => world.open({ provisioner: 'nobody' }),
        rotate: () => rotate(world, opened),
      },
      dispose: async () => world[Symbol.asyncDispose](),
    };
  },
});

authoritySuite({
  name: 'step-ca, X5C provisioner',
  engine: `step-ca ${stepCaVersion}`,
  trustDomain,
  intermediates: 1,
  async make() {
    const world = await stepWorld();
    const { folder } = world;
    const x5c = { provisioner: 'signet-x5c', certificateFile: folder.file('x5c.crt'), keyFile: folder.file('x5c.key') };
    await world.certify(3 * 86_400_000);
    let opened: Authority | undefined;
    return {
      open: async () => (opened = await world.open(x5c)),
      faults: {
        outage: world.ca,
        async openRefused() {
          const stranger = await foreignLeaf(await foreignCa('Strangers'), { uri: 'spiffe://example.org/signet' });
          await writeFile(folder.file('stranger.crt'), stranger.certificate);
          await writeFile(folder.file('stranger.key'), stranger.key);
          return world.open({ ...x5c, certificateFile: folder.file('stranger.crt'), keyFile: folder.file('stranger.key') });
        },
        openMisconfigured: () => world.open({ ...x5c, provisioner: 'nobody' }),
        rotate: () => rotate(world, opened),
        async outliveCredential() {
          const lifeMs = 4000;
          await world.certify(lifeMs);
          await sleep(lifeMs / 2);
          // Who renews it is not our business; that it is taken up is.
          await world.certify(3 * 86_400_000);
          await sleep(lifeMs / 2 + 1000);
        },
      },
      dispose: async () => world[Symbol.asyncDispose](),
    };
  },
});

describe('the backend step-ca', () => {
  let world: World;
  before(async () => {
    world = await stepWorld();
  });
  after(() => world[Symbol.asyncDispose]());

  const refusal = async (work: Promise<unknown>): Promise<SignetError> => {
    const failure = await work.then(
      () => undefined,
      (error: unknown) => SignetError.from(error),
    );
    assert.ok(failure, 'it succeeded');
    return failure;
  };

  it('certifies the key of a request without any name, under the name that policy gave', async () => {
    await using authority = disposable(await world.open());
    const key = newKey();
    const bare = parseCsr(createCsr(key, []));
    assert.deepEqual(bare.uris, []);
    const asked = signingRequest(trustDomain, { spki: key.spki, spkiSha256: key.spkiSha256, csr: () => bare.der });
    const leaf = parseCertificate((await authority.sign(asked, never)).certificates[0]);
    assert.deepEqual(leaf.uris, [asked.spiffeId]);
    assert.equal(leaf.spkiSha256, key.spkiSha256);
    // step-ca fills an empty subject, and so the names are not critical: RFC 5280 §4.2.1.6 allows that.
    assert.equal(leaf.subjectAltNameCritical, false);
    assert.match(leaf.subjectText, /spiffe:/);
  });

  it('keeps a name that is too long for a common name out of it', async () => {
    await using authority = disposable(await world.open());
    const id = spiffeId(trustDomain, ['ns', 'shop', 'sa', 'w'.repeat(200)]);
    const leaf = parseCertificate((await authority.sign(signingRequest(trustDomain, { spiffeId: id }), never)).certificates[0]);
    assert.deepEqual(leaf.uris, [id]);
    assert.doesNotMatch(leaf.subjectText, /www/);
  });

  it('refuses a request whose own names are others, and says what step-ca said of it', async () => {
    await using authority = disposable(await world.open());
    const key = newKey();
    const other = createCsr(key, ['spiffe://example.org/ns/shop/sa/admin']);
    const asked = signingRequest(trustDomain, { spki: key.spki, spkiSha256: key.spkiSha256, csr: () => other });
    const { code, message } = await refusal(authority.sign(asked, never));
    assert.equal(code, 'AUTHORITY_REFUSED');
    assert.match(message, /step-ca answered 403/);
  });

  it('takes its key as `step crypto jwk create` writes it, and tells a wrong passphrase from a wrong key', async () => {
    const { folder, ca } = world;
    const plaintext = new TextEncoder().encode(JSON.stringify(ca.provisionerKey));
    const secret = new TextEncoder().encode('correct horse battery');
    const header = { alg: 'PBES2-HS256+A128KW', enc: 'A256GCM', cty: 'jwk+json' } as const;
    const setIterations = { p2c: 600_000 };
    const flat = await new FlattenedEncrypt(plaintext).setProtectedHeader(header).setKeyManagementParameters(setIterations).encrypt(secret);
    const compact = await new CompactEncrypt(plaintext)
      .setProtectedHeader(header)
      .setKeyManagementParameters(setIterations)
      .encrypt(secret);
    const passphraseFile = folder.file('passphrase');
    await writeFile(passphraseFile, 'correct horse battery\n');
    await writeFile(folder.file('wrong'), 'incorrect horse\n');
    for (const text of [JSON.stringify(flat), compact]) {
      const keyFile = folder.file('encrypted.jwe');
      await writeFile(keyFile, text);
      await using authority = disposable(await world.open({ keyFile, passphraseFile }));
      await authority.sign(signingRequest(trustDomain), never);
      for (const wrong of [{}, { passphraseFile: folder.file('wrong') }]) {
        const { code, message } = await refusal(world.open({ keyFile, ...wrong }));
        assert.equal(code, 'KEY_UNSEALABLE');
        assert.ok(!message.includes('horse'));
      }
    }
  });

  it('talks to nobody but the step-ca whose root is pinned', async () => {
    await using authority = disposable(await world.open({ rootFingerprints: ['0'.repeat(64)] }));
    const { code, message } = await refusal(authority.sign(signingRequest(trustDomain), never));
    assert.equal(code, 'AUTHORITY_MISCONFIGURED');
    assert.match(message, /rootFingerprints/);
  });

  it('signs for a whole server that is configured as the page says, by either provisioner', async () => {
    const { ca, folder } = world;
    const fingerprint = '0a1b2c3d'.repeat(8);
    const secret = new TextEncoder().encode('correct horse battery');
    const jwe = new CompactEncrypt(new TextEncoder().encode(JSON.stringify(ca.provisionerKey)))
      .setProtectedHeader({ alg: 'PBES2-HS256+A128KW', enc: 'A256GCM' })
      .setKeyManagementParameters({ p2c: 600_000 });
    await writeFile(folder.file('page.jwe'), await jwe.encrypt(secret));
    await writeFile(folder.file('page-passphrase'), 'correct horse battery');
    await world.certify(3_600_000);
    const everywhere = { 'https://ca.example.org:9000': ca.url, [fingerprint]: ca.rootFingerprint };
    const configs = [
      await pageConfig('ca-step-ca.md', 'Configure', {
        ...everywhere,
        '/etc/signet/provisioner.jwk': folder.file('page.jwe'),
        '/run/secrets/provisioner-passphrase': folder.file('page-passphrase'),
      }),
      await pageConfig(
        'ca-step-ca.md',
        'Configure',
        { ...everywhere, '/etc/signet/step-client.crt': folder.file('x5c.crt'), '/etc/signet/step-client.key': folder.file('x5c.key') },
        1,
      ),
    ];
    for (const config of configs) {
      const { chain, anchors } = await signedUnder(config);
      assert.deepEqual(parseCertificate(chain[0]).uris, ['spiffe://example.org/ns/shop/sa/web']);
      assert.deepEqual(anchors.map(sha256Hex), [ca.rootFingerprint]);
    }
  });

  it('opens while step-ca is away, and signs once it is there', async () => {
    await world.ca.stop();
    await using authority = disposable(await world.open());
    assert.equal((await refusal(authority.anchors(AbortSignal.timeout(5000)))).code, 'AUTHORITY_UNAVAILABLE');
    await world.ca.start();
    await eventually('a signature', () => authority.sign(signingRequest(trustDomain), never));
  });
});

function disposable(authority: Authority): Authority & AsyncDisposable {
  return { ...authority, [Symbol.asyncDispose]: () => authority.close() };
}
