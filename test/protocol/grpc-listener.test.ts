import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { after, before, describe, it } from 'node:test';
import * as tls from 'node:tls';
import * as grpc from '@grpc/grpc-js';
import { peerChainOf } from '../../src/sds/shown.ts';
import { connectionGraceFor, openGrpcListener } from '../../src/server/grpc-listener.ts';
import type { GrpcLimits } from '../../src/api/grpc-server.ts';
import type { GrpcListener } from '../../src/server/grpc-listener.ts';
import { silentLog } from '../support/silent-log.ts';
import { testPki } from '../support/test-pki.ts';
import type { Pair, TestPki } from '../support/test-pki.ts';

const path = '/test.Echo/PeerChain';
const buffers = {
  path,
  requestStream: false,
  responseStream: false,
  requestSerialize: pass,
  requestDeserialize: pass,
  responseSerialize: pass,
  responseDeserialize: pass,
} as const;

function pass(bytes: Buffer): Buffer {
  return bytes;
}

/** Answers with the fingerprints of the client's verified chain; `/Hang` never answers. */
function register(server: grpc.Server): void {
  server.addService(
    { PeerChain: buffers, Hang: { ...buffers, path: '/test.Echo/Hang', responseStream: true } },
    {
      PeerChain: (call: grpc.ServerUnaryCall<Buffer, Buffer>, callback: grpc.sendUnaryData<Buffer>) => {
        callback(null, Buffer.from(peerChainOf(call).map(fingerprint).join(' ')));
      },
      Hang: (call: grpc.ServerWritableStream<Buffer, Buffer>) => {
        call.write(Buffer.from('here'));
      },
    },
  );
}

function fingerprint(der: Buffer): string {
  return new X509Certificate(der).fingerprint256;
}

function ask(address: string, credentials: grpc.ChannelCredentials, message = Buffer.alloc(0)): Promise<string> {
  const client = new grpc.Client(address, credentials, { 'grpc.use_local_subchannel_pool': 1 });
  return new Promise<string>((resolve, reject) => {
    client.makeUnaryRequest(path, pass, pass, message, { deadline: Date.now() + 5000 }, (error, response) => {
      client.close();
      if (error) reject(error);
      else resolve((response ?? Buffer.alloc(0)).toString());
    });
  });
}

let control: TestPki;
let workload: TestPki;
let stranger: TestPki;
let serving: Pair;

before(async () => {
  [control, workload, stranger] = await Promise.all([testPki('control'), testPki('workload'), testPki('stranger')]);
  serving = await control.server();
});

async function listen(limits: Partial<GrpcLimits> = {}): Promise<GrpcListener> {
  const material = { ...serving, clientAnchorsPem: workload.rootPem };
  return openGrpcListener({ host: '127.0.0.1', port: 0, material, register, log: silentLog, limits });
}

/** A plain TLS connection; resolves once the handshake is done, rejects if it fails. */
async function handshake(listener: GrpcListener, options: tls.ConnectionOptions): Promise<tls.TLSSocket> {
  const socket = tls.connect({
    host: '127.0.0.1',
    port: Number(listener.address.split(':')[1]),
    ca: control.rootPem,
    ALPNProtocols: ['h2'],
    ...options,
  });
  await once(socket, 'secureConnect');
  return socket;
}

async function servedSerial(listener: GrpcListener): Promise<string | undefined> {
  const socket = await handshake(listener, {});
  const { serialNumber } = socket.getPeerX509Certificate() ?? {};
  socket.destroy();
  return serialNumber;
}

describe('the gRPC listener', () => {
  let listener: GrpcListener;
  before(async () => {
    listener = await listen();
  });
  after(() => listener.close(1000));

  it('takes a client without a certificate, and shows none of it', async () => {
    assert.equal(await ask(listener.address, grpc.credentials.createSsl(Buffer.from(control.rootPem))), '');
  });

  it('shows the certificate of a client that TLS verified by the intermediate that it sent along', async () => {
    const { leaf, certificatePem, keyPem } = await workload.client('spiffe://test.example/ns/a/sa/b');
    const credentials = grpc.credentials.createSsl(Buffer.from(control.rootPem), Buffer.from(keyPem), Buffer.from(certificatePem));
    assert.equal(await ask(listener.address, credentials), fingerprint(leaf));
  });

  it('takes a certificate of a stranger for none: the call goes through, as nobody', async () => {
    const { certificatePem, keyPem } = await stranger.client('spiffe://test.example/ns/a/sa/b');
    const credentials = grpc.credentials.createSsl(Buffer.from(control.rootPem), Buffer.from(keyPem), Buffer.from(certificatePem));
    assert.equal(await ask(listener.address, credentials), '');
  });

  it('is not talked to by a client that trusts another CA', async () => {
    await assert.rejects(ask(listener.address, grpc.credentials.createSsl(Buffer.from(workload.rootPem))), {
      code: grpc.status.UNAVAILABLE,
    });
  });

  it('refuses a message over the limit by name', async () => {
    const credentials = grpc.credentials.createSsl(Buffer.from(control.rootPem));
    await assert.rejects(ask(listener.address, credentials, Buffer.alloc(300 * 1024)), { code: grpc.status.RESOURCE_EXHAUSTED });
  });

  it('says who has the port', async () => {
    const [host = '', port = ''] = listener.address.split(':');
    const material = { ...serving, clientAnchorsPem: workload.rootPem };
    await assert.rejects(openGrpcListener({ host, port: Number(port), material, register, log: silentLog }), {
      code: 'CONFIG_INVALID',
      message: /^listen\.grpc: can't listen on .*another program has that address$/,
    });
  });
});

describe('a swap of the serving certificate', () => {
  it('shows at the next handshake, while calls on open connections go on', async () => {
    const listener = await listen();
    const client = new grpc.Client(listener.address, grpc.credentials.createSsl(Buffer.from(control.rootPem)));
    const stream = client.makeServerStreamRequest('/test.Echo/Hang', pass, pass, Buffer.alloc(0));
    stream.on('error', () => undefined);
    await once(stream, 'data');

    const before = await servedSerial(listener);
    const next = await control.server();
    listener.setMaterial({ ...next, clientAnchorsPem: workload.rootPem });
    const now = await servedSerial(listener);
    assert.notEqual(now, before);
    assert.equal(now, new X509Certificate(next.certificatePem).serialNumber);
    assert.equal(stream.destroyed, false);
    client.close();
    await listener.close(200);
  });

  it('brings new roots for clients into force, and takes old ones out', async () => {
    const listener = await listen();
    const { certificatePem, keyPem } = await workload.client('spiffe://test.example/ns/a/sa/b');
    const credentials = () => grpc.credentials.createSsl(Buffer.from(control.rootPem), Buffer.from(keyPem), Buffer.from(certificatePem));
    assert.notEqual(await ask(listener.address, credentials()), '');
    listener.setMaterial({ ...serving, clientAnchorsPem: stranger.rootPem });
    assert.equal(await ask(listener.address, credentials()), '');
    listener.setMaterial({ ...serving, clientAnchorsPem: stranger.rootPem + workload.rootPem });
    assert.notEqual(await ask(listener.address, credentials()), '');
    await listener.close(1000);
  });

  it('that is no good is refused, and the old one goes on', async () => {
    const listener = await listen();
    const other = await control.server();
    assert.throws(() => {
      listener.setMaterial({ certificatePem: other.certificatePem, keyPem: serving.keyPem, clientAnchorsPem: workload.rootPem });
    });
    assert.equal(await servedSerial(listener), new X509Certificate(serving.certificatePem).serialNumber);
    await listener.close(1000);
  });
});

// Each of these holds at the start and after a swap: a context that is set anew forgets what it isn't told.
for (const swapped of [false, true]) {
  describe(`TLS ${swapped ? 'after a swap' : 'from the start'}`, () => {
    let listener: GrpcListener;
    before(async () => {
      listener = await listen();
      if (swapped) listener.setMaterial({ ...serving, clientAnchorsPem: workload.rootPem });
    });
    after(() => listener.close(1000));

    it('prefers 1.3, and still takes 1.2 with GCM', async () => {
      const newest = await handshake(listener, {});
      assert.equal(newest.getProtocol(), 'TLSv1.3');
      newest.destroy();
      const older = await handshake(listener, { maxVersion: 'TLSv1.2' });
      assert.equal(older.getProtocol(), 'TLSv1.2');
      assert.match(older.getCipher().name, /^ECDHE-ECDSA-.*(GCM|CHACHA20)/);
      older.destroy();
    });

    it('refuses 1.1 and everything with CBC', async () => {
      await assert.rejects(
        handshake(listener, { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' }),
        /protocol version/i,
      );
      await assert.rejects(
        handshake(listener, { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA:AES128-SHA:@SECLEVEL=0' }),
        /handshake failure/i,
      );
    });

    it("refuses who doesn't speak HTTP/2", async () => {
      await assert.rejects(handshake(listener, { ALPNProtocols: ['http/1.1'] }), /no.application.protocol/i);
    });

    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      it(`resumes no ${version} session, so that no certificate goes unverified`, async () => {
        const first = tls.connect({
          host: '127.0.0.1',
          port: Number(listener.address.split(':')[1]),
          ca: control.rootPem,
          ALPNProtocols: ['h2'],
          minVersion: version,
          maxVersion: version,
        });
        const sessions: Buffer[] = [];
        first.on('session', (session: Buffer) => sessions.push(session));
        await once(first, 'secureConnect');
        const own = first.getSession();
        if (own) sessions.push(own);
        // The server's settings frame comes after its session tickets, so what there is of those has come too.
        await once(first, 'data');
        first.destroy();
        for (const session of sessions) {
          const again = await handshake(listener, { session, minVersion: version, maxVersion: version });
          assert.equal(again.isSessionReused(), false);
          again.destroy();
        }
        assert.notEqual(sessions.length, 0);
      });
    }
  });
}

describe('limits of connections', () => {
  it('ends the connection of a client that never finishes its handshake', async () => {
    const listener = await listen({ handshakeTimeoutMs: 200 });
    const { connect } = await import('node:net');
    const socket = connect(Number(listener.address.split(':')[1]), '127.0.0.1');
    socket.on('error', () => undefined);
    await once(socket, 'close');
    await listener.close(1000);
  });

  it('tells an old connection to go away, and lets its stream end by itself', async () => {
    const listener = await listen({ maxConnectionAgeMs: 300, connectionGraceMs: connectionGraceFor(60_000) });
    const session = (await import('node:http2')).connect(`https://${listener.address}`, { ca: control.rootPem });
    session.on('error', () => undefined);
    const stream = session.request({ ':method': 'POST', ':path': '/test.Echo/Hang', 'content-type': 'application/grpc', te: 'trailers' });
    stream.on('error', () => undefined);
    stream.end(Buffer.alloc(5));
    await once(stream, 'response');
    await once(session, 'goaway');
    assert.equal(stream.destroyed, false);
    session.destroy();
    await listener.close(1000);
  });

  it('gives at least a thousand streams to one connection', async () => {
    const listener = await listen();
    const session = (await import('node:http2')).connect(`https://${listener.address}`, { ca: control.rootPem });
    const [settings] = (await once(session, 'remoteSettings')) as [{ readonly maxConcurrentStreams?: number }];
    assert.ok((settings.maxConcurrentStreams ?? 0) >= 1000);
    session.destroy();
    await listener.close(1000);
  });

  it("closes by force when a stream won't end, and gives the port back", async () => {
    const listener = await listen();
    const client = new grpc.Client(listener.address, grpc.credentials.createSsl(Buffer.from(control.rootPem)));
    const stream = client.makeServerStreamRequest('/test.Echo/Hang', pass, pass, Buffer.alloc(0));
    const failed = once(stream, 'error');
    stream.on('error', () => undefined);
    await once(stream, 'data');
    await listener.close(200);
    await failed;
    client.close();
    const again = createServer().listen(Number(listener.address.split(':')[1]), '127.0.0.1');
    await once(again, 'listening');
    again.close();
  });
});
