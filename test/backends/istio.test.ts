/** Istio's own CA behind the backend `istio`. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { systemClock } from '../../src/base/clock.ts';
import { SignetError } from '../../src/base/errors.ts';
import type { Authority } from '../../src/ca/authority.ts';
import { openIstioAuthority } from '../../src/ca/istio/istio-authority.ts';
import { istioSettings } from '../../src/ca/istio/settings.ts';
import { parseTrustDomain, spiffeId } from '../../src/spiffe/id.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { verifyChain } from '../../src/x509/chain.ts';
import { createCsr, parseCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { authoritySuite, signingRequest } from '../support/authority-suite.ts';
import { istioVersion, startIstioCa } from '../support/engines/istio-ca.ts';
import type { IstioCa } from '../support/engines/istio-ca.ts';
import { foreignCa, foreignLeaf } from '../support/openssl.ts';
import type { PemPair } from '../support/openssl.ts';
import { pageConfig, signedUnder } from '../support/page-config.ts';
import { silentLog } from '../support/silent-log.ts';
import { replaceFile, tempFolder } from '../support/temp.ts';
import type { TempFolder } from '../support/temp.ts';
import { testPki } from '../support/test-pki.ts';

const trustDomain = parseTrustDomain('example.org');
const never = new AbortController().signal;
const authorityId = 'spiffe://example.org/signet/server';
const engine = `Istio CA ${await istioVersion()}`;

type Changes = Readonly<Record<string, unknown>>;

interface World extends AsyncDisposable {
  readonly ca: IstioCa;
  readonly folder: TempFolder;
  open(changes?: Changes): Authority;
}

function opener(ca: IstioCa, usual: Changes): (changes?: Changes) => Authority {
  return (changes = {}) => {
    const settings = istioSettings.parse({
      type: 'istio',
      address: ca.address,
      caFile: ca.tlsCaFile,
      roots: ca.rootsFile,
      ...usual,
      ...changes,
    });
    return openIstioAuthority({ name: 'istio', settings, clock: systemClock, random: Math.random, log: silentLog });
  };
}

/** A CA that takes us for its registration authority, by our certificate. */
interface AuthorityWorld extends World {
  certify(lifeMs: number, uri?: string): Promise<void>;
}

async function authorityWorld(): Promise<AuthorityWorld> {
  const folder = await tempFolder();
  const clients: PemPair = await foreignCa('Clients');
  const ca = await startIstioCa({ authority: authorityId, clientCaPem: clients.certificate });
  const certify = async (lifeMs: number, uri = authorityId): Promise<void> => {
    const leaf = await foreignLeaf(clients, { uri, notAfter: Date.now() + lifeMs });
    await replaceFile(folder.file('client.key'), leaf.key);
    await replaceFile(folder.file('client.crt'), leaf.certificate);
  };
  await certify(3_600_000);
  return {
    ca,
    folder,
    certify,
    open: opener(ca, { certificateFile: folder.file('client.crt'), keyFile: folder.file('client.key') }),
    async [Symbol.asyncDispose]() {
      await ca[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** istiod in a cluster: we are the node proxy, and `shop/web` runs on our node. */
async function nodeWorld(): Promise<World> {
  const folder = await tempFolder();
  const ca = await startIstioCa({ node: 'istio-system/signet', token: 'a-token-of-the-cluster', pods: ['shop/web'] });
  await writeFile(folder.file('token'), 'a-token-of-the-cluster\n');
  return {
    ca,
    folder,
    open: opener(ca, { tokenFile: folder.file('token'), impersonate: true, clusterId: 'Kubernetes' }),
    async [Symbol.asyncDispose]() {
      await ca[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** A gRPC server that has the right certificate and no CA. */
async function elsewhere(folder: TempFolder): Promise<{ readonly changes: Changes; close(): void }> {
  const pki = await testPki('elsewhere');
  const { certificatePem, keyPem } = await pki.server();
  await writeFile(folder.file('elsewhere.pem'), pki.rootPem);
  const server = new Server();
  const port = await new Promise<number>((resolve, reject) => {
    const pair = [{ cert_chain: Buffer.from(certificatePem), private_key: Buffer.from(keyPem) }];
    server.bindAsync('127.0.0.1:0', ServerCredentials.createSsl(null, pair), (error, bound) => {
      if (error) reject(error);
      else resolve(bound);
    });
  });
  return {
    changes: { address: `127.0.0.1:${String(port)}`, caFile: folder.file('elsewhere.pem') },
    close: () => {
      server.forceShutdown();
    },
  };
}

function closing(authority: Authority, also: () => void): Authority {
  return {
    ...authority,
    async close() {
      await authority.close();
      also();
    },
  };
}

authoritySuite({
  name: 'istio, as a registration authority by mutual TLS',
  engine,
  trustDomain,
  intermediates: 1,
  async make() {
    const world = await authorityWorld();
    const { ca, folder } = world;
    return {
      open: async () => Promise.resolve(world.open()),
      faults: {
        outage: ca,
        async openRefused() {
          const stranger = await foreignLeaf(await foreignCa('Strangers'), { uri: authorityId });
          await writeFile(folder.file('stranger.crt'), stranger.certificate);
          await writeFile(folder.file('stranger.key'), stranger.key);
          // A certificate of a stranger's CA is no certificate to TLS in Go, which asks for one and takes none: Istio then refuses the call.
          await world.certify(3_600_000, 'spiffe://example.org/ns/shop/sa/web');
          const refused = world.open();
          await refused.health(AbortSignal.timeout(10_000));
          await world.certify(3_600_000);
          return refused;
        },
        async openMisconfigured() {
          const other = await elsewhere(folder);
          return closing(world.open(other.changes), other.close);
        },
        rotate: ca.rotate,
        async outliveCredential() {
          const lifeMs = 4000;
          await world.certify(lifeMs);
          await sleep(lifeMs / 2);
          await world.certify(3_600_000);
          // The CA is met anew, and asks for a certificate that is good now.
          await sleep(lifeMs / 2 + 2500);
          await ca.stop();
          await ca.start();
          await sleep(1500);
        },
      },
      dispose: async () => world[Symbol.asyncDispose](),
    };
  },
});

authoritySuite({
  name: 'istio, as a trusted node account by token',
  engine: `${engine}, its API server a fake`,
  trustDomain: parseTrustDomain('cluster.local'),
  intermediates: 1,
  async make() {
    const world = await nodeWorld();
    const { ca, folder } = world;
    return {
      open: async () => Promise.resolve(world.open()),
      faults: {
        outage: ca,
        async openRefused() {
          await writeFile(folder.file('old-token'), 'a-token-of-last-week');
          return world.open({ tokenFile: folder.file('old-token') });
        },
        async openMisconfigured() {
          const other = await elsewhere(folder);
          return closing(world.open(other.changes), other.close);
        },
        rotate: ca.rotate,
      },
      dispose: async () => world[Symbol.asyncDispose](),
    };
  },
});

function disposable(authority: Authority): Authority & AsyncDisposable {
  return { ...authority, [Symbol.asyncDispose]: () => authority.close() };
}

async function refusal(work: Promise<unknown>): Promise<SignetError> {
  const failure = await work.then(
    () => undefined,
    (error: unknown) => SignetError.from(error),
  );
  assert.ok(failure, 'it succeeded');
  return failure;
}

describe('the backend istio', () => {
  let authority: AuthorityWorld;
  let node: World;
  before(async () => {
    [authority, node] = await Promise.all([authorityWorld(), nodeWorld()]);
  });
  after(async () => {
    await authority[Symbol.asyncDispose]();
    await node[Symbol.asyncDispose]();
  });

  it('gets nothing for a pod that is not on the node of the account that it is', async () => {
    await using istio = disposable(node.open());
    const id = spiffeId(parseTrustDomain('cluster.local'), ['ns', 'shop', 'sa', 'elsewhere']);
    const { code, message } = await refusal(istio.sign(signingRequest(trustDomain, { spiffeId: id }), never));
    assert.equal(code, 'AUTHORITY_REFUSED');
    assert.match(message, /impersonation/);
  });

  it('says that the workload must name itself, where the CA takes the name from the request', async () => {
    await using istio = disposable(authority.open());
    const key = generateKeyPair();
    const bare = parseCsr(createCsr(key, []));
    const asked = signingRequest(trustDomain, { spki: key.spki, spkiSha256: key.spkiSha256, csr: () => bare.der });
    const { code, message } = await refusal(istio.sign(asked, never));
    assert.equal(code, 'AUTHORITY_REFUSED');
    assert.match(message, /put its SPIFFE ID into its CSR/);
  });

  it('trusts no root that came with a certificate', async () => {
    await using istio = disposable(authority.open());
    const before_ = await istio.anchors(never);
    const world = authority;
    await writeFile(world.folder.file('pinned-roots.pem'), await readFile(world.ca.rootsFile));
    await using careful = disposable(authority.open({ roots: world.folder.file('pinned-roots.pem') }));
    await world.ca.rotate();
    const signed = await careful.sign(signingRequest(trustDomain), never);
    assert.deepEqual(await careful.anchors(never), before_);
    assert.throws(() => {
      verifyChain(signed.certificates, before_, Date.now());
    }, 'the new root is not in what its operator handed out');
  });

  it('connects to nobody whose certificate has another name than was meant', async () => {
    await using istio = disposable(authority.open({ serverName: 'istiod.example' }));
    const { code, message } = await refusal(istio.sign(signingRequest(trustDomain), never));
    assert.equal(code, 'AUTHORITY_UNAVAILABLE');
    assert.match(message, /check caFile, serverName/);
  });

  it('signs for a whole server that is configured as the page says, either way', async () => {
    const files = (world: World): Record<string, string> => ({
      'istiod.istio-system.svc:15012': world.ca.address,
      '/etc/signet/istiod-ca.pem': world.ca.tlsCaFile,
      '/etc/signet/mesh-roots.pem': world.ca.rootsFile,
    });
    const byCertificate = await pageConfig('ca-istio.md', 'As a registration authority, by mutual TLS', {
      ...files(authority),
      '/etc/signet/client.crt': authority.folder.file('client.crt'),
      '/etc/signet/client.key': authority.folder.file('client.key'),
    });
    const first = await signedUnder(byCertificate, ['spiffe://example.org/ns/shop/sa/web']);
    assert.deepEqual(parseCertificate(first.chain[0]).uris, ['spiffe://example.org/ns/shop/sa/web']);
    const byToken = await pageConfig('ca-istio.md', 'As a trusted node account of istiod', {
      ...files(node),
      '/var/run/secrets/tokens/istio-token': node.folder.file('token'),
    });
    const second = await signedUnder(byToken);
    assert.deepEqual(parseCertificate(second.chain[0]).uris, ['spiffe://example.org/ns/shop/sa/web']);
  });
});
