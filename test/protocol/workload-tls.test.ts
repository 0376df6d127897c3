import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectHttp2, createSecureServer } from 'node:http2';
import { createServer as createHttpsServer, request } from 'node:https';
import { text } from 'node:stream/consumers';
import { connect, createServer } from 'node:tls';
import { before, describe, it } from 'node:test';
import { clientOptions, httpsAgent, memberOf, mutualTls, oneOf, peerIdOf, secureServer } from '../../src/workload/index.ts';
import type { X509Source } from '../../src/workload/index.ts';
import { parseSpiffeId } from '../../src/spiffe/id.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import type { X509Svid } from '../../src/workload-api/workload-source.ts';
import { ask, bareOptions, listening, testWorkload, tlsServer } from '../support/workload-peers.ts';
import { testTrustDomain } from '../support/workload-world.ts';
import type { TestTrustDomain } from '../support/workload-world.ts';

const td = 'spiffe://test.example';
const [web, db] = [`${td}/web`, `${td}/db`];

let ours: TestTrustDomain;
let partner: TestTrustDomain;
before(async () => {
  ours = await testTrustDomain('test.example');
  partner = await testTrustDomain('partner.example');
});

/** A certificate for a name, by a CA that has no say about it. */
async function impostor(ca: TestTrustDomain, id: string): Promise<X509Svid> {
  const key = generateKeyPair();
  const now = Math.floor(Date.now() / 1000) * 1000;
  const signed = await ca.authority.sign(
    {
      spiffeId: parseSpiffeId(id),
      spki: key.spki,
      spkiSha256: key.spkiSha256,
      csr: () => Buffer.alloc(0),
      notBefore: now - 60_000,
      notAfter: now + 60_000,
    },
    AbortSignal.timeout(5000),
  );
  return { spiffeId: id, chain: signed.certificates, keyPkcs8: key.privateKey.export({ type: 'pkcs8', format: 'der' }), hint: '' };
}

describe('mutual TLS between two services', () => {
  it('goes on through rotations of both, on new connections, and each knows the other', async () => {
    await using server = await testWorkload(ours, '/db');
    await using client = await testWorkload(ours, '/web');
    await using peer = await tlsServer(server.source, { authorize: oneOf(web) });
    const serials = new Set<string>();
    let connections = 0;
    for (let rotation = 0; rotation < 5; rotation++) {
      for (let i = 0; i < 10; i++, connections++) {
        const { said, serial } = await ask(peer.port, clientOptions(client.source, oneOf(db)));
        assert.equal(said, web);
        serials.add(serial);
      }
      assert.ok(serials.has(server.source.svid.serialNumber));
      await Promise.all([server.rotate(), client.rotate()]);
    }
    assert.equal(serials.size, 5);
    assert.equal(connections, 50);
    assert.equal(peer.refused.length, 0);
  });

  it('is refused by a client that wants another SPIFFE ID, and by a server that does', async () => {
    await using server = await testWorkload(ours, '/db');
    await using client = await testWorkload(ours, '/web');
    await using peer = await tlsServer(server.source, { authorize: oneOf(`${td}/other`) });
    await assert.rejects(
      ask(peer.port, clientOptions(client.source, oneOf(web))),
      /not one that is wanted here: spiffe:\/\/test\.example\/db/,
    );
    assert.equal(peer.refused.length, 0);
    await assert.rejects(ask(peer.port, clientOptions(client.source, memberOf(td))));
    assert.match(peer.refused[0]?.message ?? '', /not one that is wanted here: spiffe:\/\/test\.example\/web/);
  });

  it('is refused to a peer of a trust domain that is not trusted, whatever is authorized', async () => {
    const anybody = (): boolean => true;
    await using home = await testWorkload(ours, '/db');
    await using abroad = await testWorkload(partner, '/app', [ours]);
    await using peer = await tlsServer(home.source, { authorize: anybody });
    await assert.rejects(ask(peer.port, clientOptions(abroad.source, anybody)), /unknown ca|closed|ECONNRESET/i);
    await using theirs = await tlsServer(abroad.source, { authorize: anybody });
    await assert.rejects(ask(theirs.port, clientOptions(home.source, anybody)), /self-signed|unable to|issuer/i);
  });

  it('takes a federated peer, but no name of ours that its CA vouches for', async () => {
    await using server = await testWorkload(ours, '/db', [partner]);
    await using client = await testWorkload(ours, '/web', [partner]);
    await using abroad = await testWorkload(partner, '/app', [ours]);
    const app = 'spiffe://partner.example/app';
    await using theirs = await tlsServer(abroad.source, { authorize: oneOf(web), trustDomain: td });
    assert.equal((await ask(theirs.port, clientOptions(client.source, oneOf(app)))).said, web);
    await using open = await tlsServer(server.source, { authorize: memberOf(partner.name), trustDomain: partner.name });
    assert.equal((await ask(open.port, clientOptions(abroad.source, oneOf(db)))).said, app);

    // The partner's CA signs a server that says it is our database.
    const roots = [ours.authority.root, partner.authority.root];
    const options = { ...mutualTls, ...bareOptions(await impostor(partner, db), roots) };
    await using false_ = await listening(createServer(options, (socket) => socket.end('welcome')));
    await assert.rejects(ask(false_.port, clientOptions(client.source, oneOf(db))), /it does not chain to a trusted root/);
    // And a client that says it is our web service, to a server for us and to one for the partner.
    const falseWeb = bareOptions(await impostor(partner, web), roots);
    await using closed = await tlsServer(server.source, { authorize: oneOf(web) });
    await assert.rejects(ask(closed.port, falseWeb));
    await assert.rejects(ask(open.port, falseWeb));
    assert.match(open.refused.at(-1)?.message ?? '', /trust domain that is not accepted here: spiffe:\/\/test\.example\/web/);
  });

  it('is refused to a client without a certificate, also by a server that was not made with mutualTls', async () => {
    await using server = await testWorkload(ours, '/db');
    for (const options of [mutualTls, {}]) {
      await using peer = await tlsServer(server.source, { authorize: () => true }, options);
      await assert.rejects(ask(peer.port, { rejectUnauthorized: false }));
    }
  });

  it('is refused to a certificate that TLS did not verify, also by a server that was made to let everybody in', async () => {
    await using server = await testWorkload(ours, '/db');
    await using peer = await tlsServer(server.source, { authorize: oneOf(web) }, { requestCert: true, rejectUnauthorized: false });
    await assert.rejects(ask(peer.port, bareOptions(await impostor(partner, web), [ours.authority.root])), /closed|reset/i);
    assert.match(peer.refused[0]?.message ?? '', /no certificate that TLS verified/);
    assert.equal((await ask(peer.port, bareOptions(await ours.svid('/web'), [ours.authority.root]))).said, web);
  });

  it('fails with a server that was not given an identity yet', async () => {
    await using client = await testWorkload(ours, '/web');
    const bare = createServer(mutualTls, (socket) => socket.end('x'));
    bare.on('tlsClientError', () => undefined);
    await using peer = await listening(bare);
    await assert.rejects(
      ask(
        peer.port,
        clientOptions(client.source, () => true),
      ),
    );
  });

  it('ends for new clients when their trust domain is no longer trusted, and comes back with it', async () => {
    await using server = await testWorkload(ours, '/db', [partner]);
    await using abroad = await testWorkload(partner, '/app', [ours]);
    await using peer = await tlsServer(server.source, { authorize: memberOf(partner.name), trustDomain: partner.name });
    const options = (): ReturnType<typeof clientOptions> => clientOptions(abroad.source, oneOf(db));
    await ask(peer.port, options());
    const state = server.world.source.x509();
    assert.ok(typeof state === 'object');
    const warned = once(server.source, 'warning');
    server.world.source.setX509({ ...state, bundles: new Map([[td, [ours.authority.root]]]) });
    await warned;
    await assert.rejects(ask(peer.port, options()));
    await server.rotate();
    await ask(peer.port, options());
  });

  it('takes authenticated encryption alone, before a rotation and after it, and resumes no session', async () => {
    await using server = await testWorkload(ours, '/db');
    await using client = await testWorkload(ours, '/web');
    await using peer = await tlsServer(server.source, { authorize: oneOf(web) });
    for (let round = 0; round < 2; round++) {
      const mine = clientOptions(client.source, oneOf(db));
      await ask(peer.port, { ...mine, maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256' });
      await assert.rejects(ask(peer.port, { ...mine, maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA' }));
      await assert.rejects(ask(peer.port, { ...mine, minVersion: 'TLSv1', maxVersion: 'TLSv1.1' }));
      const sessions: Buffer[] = [];
      for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
        for (let i = 0; i < 2; i++) {
          const session = sessions.at(-1);
          const socket = connect({ host: '127.0.0.1', port: peer.port, ...mine, maxVersion, ...(session && i === 1 ? { session } : {}) });
          socket.on('session', (made: Buffer) => sessions.push(made));
          socket.resume();
          await once(socket, 'secureConnect');
          assert.equal(socket.isSessionReused(), false, maxVersion);
          await once(socket, 'close');
        }
      }
      await server.rotate();
    }
  });
});

it('HTTPS: a server and an agent follow rotations, and a handler knows its client', async () => {
  await using server = await testWorkload(ours, '/db');
  await using client = await testWorkload(ours, '/web');
  const https = createHttpsServer(mutualTls, (incoming, response) => {
    response.setHeader('connection', 'close');
    response.end(peerIdOf(incoming.socket));
  });
  secureServer(https, server.source, { authorize: oneOf(web) });
  await using peer = await listening(https);
  const agent = httpsAgent(client.source, oneOf(db));
  const get = (through: typeof agent): Promise<{ body: string; serial: string }> =>
    new Promise((resolve, reject) => {
      request({ host: '127.0.0.1', port: peer.port, agent: through }, (response) => {
        const serial = (response.socket as unknown as { getPeerCertificate(): { serialNumber: string } }).getPeerCertificate().serialNumber;
        let body = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
        response.once('end', () => {
          resolve({ body, serial });
        });
      })
        .once('error', reject)
        .end();
    });
  const serials = new Set<string>();
  for (let rotation = 0; rotation < 3; rotation++) {
    const { body, serial } = await get(agent);
    assert.equal(body, web);
    serials.add(serial);
    await Promise.all([server.rotate(), client.rotate()]);
  }
  assert.equal(serials.size, 3);
  await assert.rejects(get(httpsAgent(client.source, oneOf(web))), /not one that is wanted here/);
  agent.destroy();
});

it('HTTP/2: a client that is not let in ends its own connection alone', async () => {
  await using server = await testWorkload(ours, '/db');
  await using client = await testWorkload(ours, '/web');
  await using other = await testWorkload(ours, '/other');
  const handled: (string | undefined)[] = [];
  const http2 = createSecureServer(mutualTls);
  http2.on('stream', (stream) => {
    handled.push(peerIdOf(stream.session?.socket ?? {}));
    stream.respond({ ':status': 200 });
    stream.end('hello');
  });
  http2.on('sessionError', () => undefined);
  secureServer(http2, server.source, { authorize: oneOf(web) });
  await using peer = await listening(http2);
  const get = async (source: X509Source): Promise<string> => {
    const session = connectHttp2(`https://127.0.0.1:${String(peer.port)}`, clientOptions(source, oneOf(db)));
    try {
      const stream = session.request({ ':path': '/' });
      const ended = new Promise<never>((_, reject) => session.once('error', reject).once('close', reject));
      return await Promise.race([text(stream), ended]);
    } finally {
      session.destroy();
    }
  };
  for (let round = 0; round < 3; round++) {
    assert.equal(await get(client.source), 'hello');
    await assert.rejects(get(other.source));
    await server.rotate();
  }
  assert.equal(handled.length, 3);
});
