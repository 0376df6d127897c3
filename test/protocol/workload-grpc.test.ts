import assert from 'node:assert/strict';
import { connect } from 'node:tls';
import { once } from 'node:events';
import { before, describe, it } from 'node:test';
import { Client, Server, status } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import { clientOptions, grpcChannelCredentials, grpcServerCredentials, memberOf, oneOf } from '../../src/workload/index.ts';
import type { Authorize, ServerSecurity, X509Source } from '../../src/workload/index.ts';
import { ask, bareOptions, testWorkload } from '../support/workload-peers.ts';
import { testTrustDomain } from '../support/workload-world.ts';
import type { TestTrustDomain } from '../support/workload-world.ts';

const td = 'spiffe://test.example';
const [web, db] = [`${td}/web`, `${td}/db`];
const asIs = (bytes: Buffer): Buffer => bytes;
const path = '/echo.Echo/Echo';

let ours: TestTrustDomain;
let partner: TestTrustDomain;
before(async () => {
  ours = await testTrustDomain('test.example');
  partner = await testTrustDomain('partner.example');
});

interface EchoServer extends AsyncDisposable {
  readonly port: number;
  readonly calls: number;
}

async function echoServer(source: X509Source, security: Omit<ServerSecurity, 'onRefused'>): Promise<EchoServer> {
  let calls = 0;
  const server = new Server();
  const bytes = { requestSerialize: asIs, requestDeserialize: asIs, responseSerialize: asIs, responseDeserialize: asIs };
  server.addService(
    { Echo: { path, requestStream: false, responseStream: false, ...bytes } },
    {
      Echo: (call: { request: Buffer }, callback: (error: null, response: Buffer) => void) => {
        calls++;
        callback(null, call.request);
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpcServerCredentials(source, security), (error, bound) => {
      if (error) reject(error);
      else resolve(bound);
    });
  });
  return {
    port,
    get calls() {
      return calls;
    },
    [Symbol.asyncDispose]() {
      server.forceShutdown();
      return Promise.resolve();
    },
  };
}

/** One call on a channel of its own; resolves to the status. */
async function call(port: number, source: X509Source, authorize: Authorize): Promise<{ code: number; details: string }> {
  const client = new Client(`localhost:${String(port)}`, grpcChannelCredentials(source, authorize), {
    'grpc.use_local_subchannel_pool': 1,
  });
  try {
    return await new Promise((resolve) => {
      client.makeUnaryRequest(path, asIs, asIs, Buffer.from('hello'), { deadline: Date.now() + 5000 }, (error: ServiceError | null) => {
        resolve({ code: error?.code ?? status.OK, details: error?.details ?? '' });
      });
    });
  } finally {
    client.close();
  }
}

describe('gRPC between two services', () => {
  it('goes on through rotations of both, on new channels and on one that stays open', async () => {
    await using server = await testWorkload(ours, '/db');
    await using client = await testWorkload(ours, '/web');
    await using echo = await echoServer(server.source, { authorize: oneOf(web) });
    const staying = new Client(`localhost:${String(echo.port)}`, grpcChannelCredentials(client.source, oneOf(db)));
    const serials = new Set<string>();
    for (let rotation = 0; rotation < 5; rotation++) {
      for (let i = 0; i < 5; i++) assert.deepEqual(await call(echo.port, client.source, oneOf(db)), { code: status.OK, details: '' });
      await new Promise<void>((resolve, reject) => {
        staying.makeUnaryRequest(path, asIs, asIs, Buffer.from('x'), { deadline: Date.now() + 5000 }, (error: ServiceError | null) => {
          if (error) reject(error);
          else resolve();
        });
      });
      const socket = connect({ host: '127.0.0.1', port: echo.port, ALPNProtocols: ['h2'], ...clientOptions(client.source, oneOf(db)) });
      await once(socket, 'secureConnect');
      serials.add(socket.getPeerCertificate().serialNumber);
      socket.destroy();
      await Promise.all([server.rotate(), client.rotate()]);
    }
    staying.close();
    assert.equal(serials.size, 5);
    assert.equal(echo.calls, 30);
  });

  it('is refused to whom it is not for, on either side', async () => {
    await using server = await testWorkload(ours, '/db');
    await using client = await testWorkload(ours, '/web');
    await using echo = await echoServer(server.source, { authorize: oneOf(`${td}/other`) });
    const refused = await call(echo.port, client.source, oneOf(db));
    assert.equal(refused.code, status.PERMISSION_DENIED);
    assert.match(refused.details, /not one that is wanted here/);
    const unwanted = await call(echo.port, client.source, oneOf(web));
    assert.equal(unwanted.code, status.UNAVAILABLE);
    assert.match(unwanted.details, /not one that is wanted here: spiffe:\/\/test\.example\/db/);
    assert.equal(echo.calls, 0);
  });

  it('is refused to a peer of another trust domain and to one without a certificate', async () => {
    await using server = await testWorkload(ours, '/db', [partner]);
    await using abroad = await testWorkload(partner, '/app', [ours]);
    await using echo = await echoServer(server.source, { authorize: () => true });
    assert.equal((await call(echo.port, abroad.source, oneOf(db))).code, status.UNAVAILABLE);
    await assert.rejects(ask(echo.port, { ALPNProtocols: ['h2'], rejectUnauthorized: false }));
    // A server that takes the partner's clients takes them alone.
    await using open = await echoServer(server.source, { authorize: memberOf(partner.name), trustDomain: partner.name });
    assert.equal((await call(open.port, abroad.source, oneOf(db))).code, status.OK);
    await using client = await testWorkload(ours, '/web');
    assert.equal((await call(open.port, client.source, oneOf(db))).code, status.UNAVAILABLE);
    assert.equal(echo.calls, 0);
  });

  it('takes authenticated encryption alone, before a rotation and after it', async () => {
    await using server = await testWorkload(ours, '/db');
    await using echo = await echoServer(server.source, { authorize: () => true });
    const handshake = async (options: object): Promise<void> => {
      const mine = bareOptions(await ours.svid('/web'), [ours.authority.root]);
      const socket = connect({ host: '127.0.0.1', port: echo.port, ALPNProtocols: ['h2'], maxVersion: 'TLSv1.2', ...mine, ...options });
      try {
        await once(socket, 'secureConnect');
      } finally {
        socket.destroy();
      }
    };
    for (let round = 0; round < 2; round++) {
      await handshake({ ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256' });
      await assert.rejects(handshake({ ciphers: 'ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA' }));
      await server.rotate();
    }
  });

  it('drops connections while the trust domain of its clients is not trusted, and takes them again after', async () => {
    await using server = await testWorkload(ours, '/db', [partner]);
    await using abroad = await testWorkload(partner, '/app', [ours]);
    await using echo = await echoServer(server.source, { authorize: memberOf(partner.name), trustDomain: partner.name });
    const state = server.world.source.x509();
    assert.ok(typeof state === 'object');
    const warned = once(server.source, 'warning');
    server.world.source.setX509({ ...state, bundles: new Map([[td, [ours.authority.root]]]) });
    await warned;
    assert.equal((await call(echo.port, abroad.source, oneOf(db))).code, status.UNAVAILABLE);
    await server.rotate();
    assert.equal((await call(echo.port, abroad.source, oneOf(db))).code, status.OK);
  });
});
