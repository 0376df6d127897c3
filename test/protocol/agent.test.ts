/** `signet agent` in front of a real server: what whoever comes through a socket is served. */
import assert from 'node:assert/strict';
import { createHash, createPrivateKey, createPublicKey, randomBytes, X509Certificate } from 'node:crypto';
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { describe, it } from 'node:test';
import { agentWorld } from '../support/agent-world.ts';
import { eventually } from '../support/eventually.ts';
import { findPrivateKey } from '../support/key-detector.ts';
import { foreignCa, foreignLeaf } from '../support/openssl.ts';
import type { RawStream, Received } from '../support/raw-sds-client.ts';
import { startRecordingProxy } from '../support/recording-proxy.ts';
import { rawWorkloadClient } from '../support/raw-workload-client.ts';
import { idOf, wholeServer } from '../support/whole-server.ts';
import type { Pod, WholeServer } from '../support/whole-server.ts';

const web: Pod = { serviceAccount: 'web' };
const api: Pod = { serviceAccount: 'api', uid: '33333333-3333-4333-8333-333333333333' };

/** Certificates of a few seconds: what takes half a day elsewhere happens while one looks. */
const shortLives = { policy: { tiers: { standard: '6s' } } };

interface Identity {
  readonly certificate: X509Certificate;
  readonly keyPem: string;
}

function identityOf({ secrets }: Received): Identity {
  const secret = secrets.find(({ tls_certificate }) => tls_certificate);
  const chain = secret?.tls_certificate?.certificate_chain.inline_bytes?.toString() ?? '';
  const keyPem = secret?.tls_certificate?.private_key.inline_bytes?.toString() ?? '';
  return { certificate: new X509Certificate(chain), keyPem };
}

function anchorsOf({ secrets }: Received): number {
  const pem = secrets.find(({ validation_context }) => validation_context)?.validation_context?.trusted_ca.inline_bytes?.toString() ?? '';
  return pem.match(/BEGIN CERTIFICATE/g)?.length ?? 0;
}

interface StreamStatus {
  readonly node_id: string;
  readonly spiffe_id: string;
  readonly secrets: readonly { readonly key: string; readonly state: string; readonly version: string; readonly nack_class: string }[];
}

/** What the server knows of the agent's stream for a workload. */
async function upstreamSecret(whole: WholeServer, name: string): Promise<StreamStatus['secrets'][number] | undefined> {
  const status = (await whole.doors.admin.call('GetStatus', {})) as { readonly streams: readonly StreamStatus[] };
  return status.streams.find(({ node_id }) => node_id === `signet-agent/${name}`)?.secrets.find(({ key }) => key === 'bundle');
}

async function authenticatedBy(whole: WholeServer): Promise<readonly string[]> {
  const page = (await whole.doors.admin.call('ListCertificates', {})) as {
    readonly certificates: readonly { readonly authenticated_by: string }[];
  };
  return page.certificates.map(({ authenticated_by }) => authenticated_by);
}

async function trusting(): Promise<{ whole: WholeServer; change: () => Promise<void> }> {
  const whole = await wholeServer();
  const file = whole.folder.temp.file('extra.pem');
  await writeFile(file, (await foreignCa()).certificate);
  await whole.folder.configure({ ca: { keyEncryption: { keyFile: 'kek' }, trustedRoots: ['extra.pem'] } });
  await whole.stop();
  await whole.start();
  return {
    whole,
    change: async () => writeFile(file, (await foreignCa()).certificate + (await foreignCa()).certificate),
  };
}

describe('the socket of an agent', () => {
  it('serves the identity and the trust of its workload, in both forms, by every name that they have', async () => {
    await using whole = await wholeServer();
    await using world = await agentWorld(whole, { pods: [web, api] });
    const names = ['default', idOf(web), 'ROOTCA', 'spiffe://example.org'];
    const first = world.client('web').stream('sotw');
    // The first certificate may still be on its way, and the own name isn't known before it.
    await eventually('the first certificate', () => world.agent.materials.get('web')?.current());
    first.send({ resource_names: names });
    const response = await first.next();
    assert.deepEqual(response.secrets.map(({ name }) => name).toSorted(), names.toSorted());
    const { certificate, keyPem } = identityOf(response);
    assert.equal(certificate.subjectAltName, `URI:${idOf(web)}`);
    const own = createPublicKey(createPrivateKey(keyPem)).export({ type: 'spki', format: 'der' });
    assert.ok(certificate.publicKey.export({ type: 'spki', format: 'der' }).equals(own), 'the key is the certificate’s');

    const second = world.client('api').stream('delta');
    second.send({ resource_names_subscribe: ['default', idOf(web)] });
    const removed = await second.next();
    assert.ok(removed.removed.includes(idOf(web)), "another's identity is an unknown name");
    const other = removed.secrets.length > 0 ? removed : await second.next();
    assert.equal(identityOf(other).certificate.subjectAltName, `URI:${idOf(api)}`);
  });

  it('pushes a new certificate for a new key well before the old one ends', async () => {
    await using whole = await wholeServer(shortLives);
    await using world = await agentWorld(whole, { pods: [web] });
    const stream = world.client('web').stream('sotw');
    stream.send({ resource_names: ['default'] });
    const seen: Identity[] = [];
    for (let count = 0; count < 3; count++) {
      const response = await stream.next();
      seen.push(identityOf(response));
      stream.send({ resource_names: ['default'], version_info: response.version, response_nonce: response.nonce });
    }
    assert.equal(new Set(seen.map(({ keyPem }) => keyPem)).size, 3);
    const [first, second] = seen;
    assert.ok(first && second && Date.parse(second.certificate.validFrom) < Date.parse(first.certificate.validTo));
  });

  it('is the SPIFFE Workload API too, with JWT-SVIDs by the server', async () => {
    await using whole = await wholeServer();
    await using world = await agentWorld(whole, { pods: [web] });
    await eventually('the first certificate', () => world.agent.materials.get('web')?.current());
    using client = rawWorkloadClient(world.socket('web'));
    const { svids } = (await client.stream('FetchX509SVID').next()) as { svids: readonly { spiffe_id: string; x509_svid: Buffer }[] };
    assert.deepEqual(
      svids.map(({ spiffe_id }) => spiffe_id),
      [idOf(web)],
    );
    const ask = async (): Promise<string> => {
      const answer = (await client.call('FetchJWTSVID', { audience: ['orders'] })) as { svids: readonly { svid: string }[] };
      return answer.svids[0]?.svid ?? '';
    };
    const token = await ask();
    assert.equal(await ask(), token, 'the same one until half of its life');
    const bundles = await eventually(
      'the keys of JWT-SVIDs',
      async () => (await client.stream('FetchJWTBundles').next()) as { bundles: object },
    );
    assert.deepEqual(Object.keys(bundles.bundles), ['spiffe://example.org']);
    const valid = (await client.call('ValidateJWTSVID', { audience: 'orders', svid: token })) as { spiffe_id: string };
    assert.equal(valid.spiffe_id, idOf(web));
    await assert.rejects(client.call('FetchJWTSVID', { audience: ['orders'], spiffe_id: idOf(api) }), { code: 7 });
  });
});

describe('trust and its evidence', () => {
  async function subscribed(stream: RawStream): Promise<Received> {
    stream.send({ resource_names: ['ROOTCA'] });
    const response = await stream.next();
    stream.send({ resource_names: ['ROOTCA'], version_info: response.version, response_nonce: response.nonce });
    return response;
  }

  it('is acknowledged upstream when all subscribers have acknowledged it, and not before', async () => {
    const { whole, change } = await trusting();
    await using _whole = whole;
    await using world = await agentWorld(whole, { pods: [web] });
    const [quick, slow] = [world.client('web').stream('sotw'), world.client('web').stream('sotw')];
    const before = await subscribed(quick);
    await subscribed(slow);
    assert.equal(anchorsOf(before), 2);
    const old = await eventually('the acknowledgement', async () => {
      const secret = await upstreamSecret(whole, 'web');
      return secret?.state === 'acknowledged' ? secret.version : undefined;
    });
    await change();
    const [one, two] = [await quick.next(), await slow.next()];
    assert.equal(anchorsOf(one), 3);
    quick.send({ resource_names: ['ROOTCA'], version_info: one.version, response_nonce: one.nonce });
    await new Promise((resolve) => setTimeout(resolve, 500));
    const waiting = await upstreamSecret(whole, 'web');
    assert.equal(waiting?.state, 'sent', 'one of two is no evidence');
    assert.notEqual(waiting.version, old);
    slow.send({ resource_names: ['ROOTCA'], version_info: two.version, response_nonce: two.nonce });
    await eventually('the acknowledgement', async () =>
      (await upstreamSecret(whole, 'web'))?.state === 'acknowledged' ? true : undefined,
    );
  });

  it('is refused upstream when a subscriber refuses it, with its reason', async () => {
    const { whole, change } = await trusting();
    await using _whole = whole;
    await using world = await agentWorld(whole, { pods: [web] });
    const stream = world.client('web').stream('sotw');
    await subscribed(stream);
    await eventually('the acknowledgement', async () =>
      (await upstreamSecret(whole, 'web'))?.state === 'acknowledged' ? true : undefined,
    );
    await change();
    const next = await stream.next();
    stream.send({
      resource_names: ['ROOTCA'],
      response_nonce: next.nonce,
      error_detail: { code: 13, message: 'Failed to load trusted CA certificates from <inline>' },
    });
    const refused = await eventually('the refusal', async () => {
      const secret = await upstreamSecret(whole, 'web');
      return secret?.state === 'rejected' ? secret : undefined;
    });
    assert.equal(refused.nack_class, 'bad-trust');
  });

  it('is taken at once where nobody subscribes, and not acknowledged before Envoys of an earlier run could be back', async () => {
    const { whole, change } = await trusting();
    await using _whole = whole;
    await using world = await agentWorld(whole, { pods: [web] });
    const anchors = (): number | undefined =>
      world.agent.materials
        .get('web')
        ?.current()
        ?.anchors.get('example.org' as never)?.anchors.certificates.length;
    await eventually('the first trust', () => (anchors() === 2 ? true : undefined));
    await change();
    await eventually('the changed trust', () => (anchors() === 3 ? true : undefined));
    assert.equal((await upstreamSecret(whole, 'web'))?.state, 'sent');
  });
});

describe('who the server is', () => {
  async function pinOf(whole: WholeServer): Promise<string> {
    const root = new X509Certificate(await readFile(`${whole.folder.data}/server-ca.pem`));
    return createHash('sha256')
      .update(root.publicKey.export({ type: 'spki', format: 'der' }))
      .digest('hex');
  }

  it('is known by the pinned key of the root that it shows', async () => {
    await using whole = await wholeServer();
    await using world = await agentWorld(whole, { pods: [web], trust: { pinnedSpki: [await pinOf(whole)] } });
    await eventually('the first certificate', () => world.agent.materials.get('web')?.current());
  });

  for (const kind of ['a pin', 'a CA file', 'a name']) {
    it(`is checked by ${kind} before a token is sent to it`, async () => {
      await using whole = await wholeServer();
      const ca = await foreignCa();
      const uri = kind === 'a name' ? idOf(web) : 'spiffe://example.org/signet/server';
      const shown = await foreignLeaf(ca, { uri, ip: '127.0.0.1' });
      const port = Number(whole.doors.address.split(':').at(-1));
      await using proxy = await startRecordingProxy({ port, ca: await readFile(`${whole.folder.data}/server-ca.pem`) }, shown);
      await writeFile(whole.folder.temp.file('foreign.pem'), ca.certificate);
      const trust =
        kind === 'a pin'
          ? { pinnedSpki: [await pinOf(whole)] }
          : { caFile: kind === 'a name' ? whole.folder.temp.file('foreign.pem') : `${whole.folder.data}/server-ca.pem` };
      await using world = await agentWorld(whole, { pods: [web], servers: [`127.0.0.1:${String(proxy.port)}`], trust });
      await new Promise((resolve) => setTimeout(resolve, 1500));
      assert.equal(world.agent.materials.get('web')?.current(), undefined);
      const said = Buffer.concat(proxy.fromClient());
      assert.equal(said.length, 0, 'nothing was said to whoever it is');
    });
  }
});

describe('an agent and its server', () => {
  it('never exchange a private key', async () => {
    await using whole = await wholeServer(shortLives);
    const ca = await foreignCa();
    const shown = await foreignLeaf(ca, { uri: 'spiffe://example.org/signet/server', ip: '127.0.0.1' });
    const port = Number(whole.doors.address.split(':').at(-1));
    await using proxy = await startRecordingProxy({ port, ca: await readFile(`${whole.folder.data}/server-ca.pem`) }, shown);
    const caFile = whole.folder.temp.file('foreign.pem');
    await writeFile(caFile, ca.certificate);
    await using world = await agentWorld(whole, { pods: [web], servers: [`127.0.0.1:${String(proxy.port)}`], trust: { caFile } });
    const stream = world.client('web').stream('sotw');
    stream.send({ resource_names: ['default'] });
    const keys: string[] = [];
    while (keys.length < 3) {
      const response = await stream.next();
      keys.push(identityOf(response).keyPem);
      stream.send({ resource_names: ['default'], version_info: response.version, response_nonce: response.nonce });
    }
    const token = await readFile(world.tokenFile('web'));
    assert.ok(Buffer.concat(proxy.fromClient()).length > 0 && proxy.fromServer().length > 0);
    assert.ok(token.length > 0);
    for (const key of keys) {
      assert.deepEqual([...findPrivateKey(proxy.fromClient(), key)], []);
      assert.deepEqual([...findPrivateKey(proxy.fromServer(), key)], []);
    }
  });

  it('speak for two hundred workloads on one connection', async () => {
    await using whole = await wholeServer({ limits: { issuancePerSecond: 1000, issuanceBurst: 10_000 } });
    const port = Number(whole.doors.address.split(':').at(-1));
    let connections = 0;
    const counter = createServer((near) => {
      connections++;
      const far = connect(port, '127.0.0.1');
      near.pipe(far).pipe(near);
      for (const socket of [near, far]) socket.on('error', () => undefined);
    });
    await new Promise<void>((resolve) => counter.listen(0, '127.0.0.1', resolve));
    const address = counter.address();
    assert.ok(address !== null && typeof address === 'object');
    const pods = Array.from({ length: 200 }, (_, i): Pod => ({ serviceAccount: `w${String(i)}` }));
    {
      await using world = await agentWorld(whole, { pods, servers: [`127.0.0.1:${String(address.port)}`] });
      await eventually(
        'all certificates',
        () => ([...world.agent.materials.values()].every((feed) => feed.current()) ? true : undefined),
        60_000,
      );
      await eventually('all streams', async () => {
        const { stream_count: streams } = (await whole.doors.admin.call('GetStatus', {})) as { readonly stream_count: number };
        return streams === 200 ? true : undefined;
      });
      assert.equal(connections, 1);
      const ids = new Set([...world.agent.materials.values()].map((feed) => feed.current()?.spiffeId));
      assert.equal(ids.size, 200, 'each by its own token');
    }
    counter.close();
  });

  it('go on by certificate when the token is gone, where that is allowed', async () => {
    await using whole = await wholeServer(shortLives);
    await using world = await agentWorld(whole, { pods: [web] });
    await eventually('the first certificate', () => world.agent.materials.get('web')?.current());
    await rm(world.tokenFile('web'));
    await eventually('one by certificate', async () => ((await authenticatedBy(whole)).includes('certificate') ? true : undefined));
    // The token is back: it comes first again.
    await writeFile(world.tokenFile('web'), whole.folder.token(web));
    const count = (await authenticatedBy(whole)).filter((how) => how === 'token').length;
    await eventually('one by token', async () =>
      (await authenticatedBy(whole)).filter((how) => how === 'token').length > count ? true : undefined,
    );
  });

  it('use the second server while the first is away', async () => {
    await using whole = await wholeServer();
    const closed = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => closed.once('listening', resolve));
    const address = closed.address();
    assert.ok(address !== null && typeof address === 'object');
    await new Promise((resolve) => closed.close(resolve));
    await using world = await agentWorld(whole, { pods: [web], servers: [`127.0.0.1:${String(address.port)}`, whole.doors.address] });
    await eventually('the first certificate', () => world.agent.materials.get('web')?.current());
  });
});

describe('the sealed cache', () => {
  const key = randomBytes(32).toString('base64');

  it('serves while the server is away: certificates, trust and keys of JWT-SVIDs', async () => {
    await using whole = await wholeServer();
    const settings = { cache: { folder: 'cache' } };
    await using world = await agentWorld(whole, { pods: [web], settings, env: { SIGNET_SEALING_KEY: key } });
    const before = await eventually('the first certificate', () => world.agent.materials.get('web')?.current());
    const folder = whole.folder.temp.file('a/cache');
    await eventually('both files', async () => ((await readdir(folder)).length === 2 ? true : undefined));
    await world.stop();
    await whole.stop();

    for (const name of await readdir(folder)) {
      assert.equal((await stat(`${folder}/${name}`)).mode & 0o777, 0o600);
      assert.deepEqual(
        [...findPrivateKey([await readFile(`${folder}/${name}`)], before.key.export({ type: 'pkcs8', format: 'pem' }).toString())],
        [],
      );
    }
    assert.equal((await stat(folder)).mode & 0o777, 0o700);
    await world.start();
    assert.equal(world.agent.materials.get('web')?.current()?.chain.serial, before.chain.serial);
    const stream = world.client('web').stream('sotw');
    stream.send({ resource_names: ['default', 'ROOTCA'] });
    const response = await stream.next();
    assert.equal(BigInt(`0x${identityOf(response).certificate.serialNumber}`), BigInt(`0x${before.chain.serial}`));
    assert.equal(anchorsOf(response), 1);
    using client = rawWorkloadClient(world.socket('web'));
    await client.stream('FetchX509SVID').next();
    await client.stream('FetchJWTBundles').next();
    await whole.start();
  });

  it('is of no use without its key, with another one, and when what it holds has ended', async () => {
    await using whole = await wholeServer(shortLives);
    const settings = { cache: { folder: 'cache' } };
    await using world = await agentWorld(whole, { pods: [web], settings, env: { SIGNET_SEALING_KEY: key } });
    const { chain } = await eventually('the first certificate', () => world.agent.materials.get('web')?.current());
    await world.stop();
    await whole.stop();
    await using other = await agentWorldOn(whole, settings, { SIGNET_SEALING_KEY: randomBytes(32).toString('base64') });
    assert.equal(other.agent.materials.get('web')?.current(), undefined);
    await other.stop();
    await using none = await agentWorldOn(whole, settings, {});
    assert.equal(none.agent.materials.get('web')?.current(), undefined);
    await none.stop();
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, chain.notAfter + 6000 - Date.now())));
    await using late = await agentWorldOn(whole, settings, { SIGNET_SEALING_KEY: key });
    assert.equal(late.agent.materials.get('web')?.current(), undefined);
  });
});

/** An agent whose server is stopped. */
function agentWorldOn(whole: WholeServer, settings: object, env: NodeJS.ProcessEnv) {
  return agentWorld(whole, { pods: [web], servers: ['127.0.0.1:1'], settings, env });
}
