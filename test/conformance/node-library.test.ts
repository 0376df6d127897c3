import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { clientOptions, oneOf } from '../../src/workload/index.ts';
import { goPrograms, talkingProgram } from '../support/foreign-clients.ts';
import { ask, testWorkload, tlsServer } from '../support/workload-peers.ts';
import { testTrustDomain } from '../support/workload-world.ts';
import type { TestTrustDomain } from '../support/workload-world.ts';

const [web, db] = ['spiffe://test.example/web', 'spiffe://test.example/db'];
const plain = (serial: string): string => serial.replace(/^0+/, '');

describe('signet-sds/workload and go-spiffe over TLS', () => {
  let ours: TestTrustDomain;
  let program: string;
  before(async () => {
    ours = await testTrustDomain('test.example');
    program = (await goPrograms()).client;
  });

  it('our server takes its client, and its client our server, unless another is wanted', async () => {
    await using server = await testWorkload(ours, '/db');
    await using client = await testWorkload(ours, '/web');
    await using peer = await tlsServer(server.source, { authorize: oneOf(web) });
    const dial = async (wanted: string): Promise<Readonly<Record<string, unknown>>> => {
      await using go = talkingProgram(program, ['dial', client.world.endpoint, `127.0.0.1:${String(peer.port)}`, wanted]);
      return await go.line('an answer', () => true);
    };
    for (let rotation = 0; rotation < 2; rotation++) {
      assert.deepEqual(await dial(db), { serial: plain(server.source.svid.serialNumber), said: web });
      await Promise.all([server.rotate(), client.rotate()]);
    }
    assert.match(String((await dial(web))['refused']), /unexpected ID/);
    await using strict = await tlsServer(server.source, { authorize: oneOf(db) });
    await using go = talkingProgram(program, ['dial', client.world.endpoint, `127.0.0.1:${String(strict.port)}`, db]);
    assert.ok('refused' in (await go.line('an answer', () => true)));
  });

  it('its server takes our client, and our client its server, unless another is wanted', async () => {
    await using server = await testWorkload(ours, '/db');
    await using client = await testWorkload(ours, '/web');
    await using go = talkingProgram(program, ['listen', server.world.endpoint, web]);
    const port = Number((await go.line('its port', () => true))['port']);
    for (let rotation = 0; rotation < 2; rotation++) {
      const { said } = await ask(port, clientOptions(client.source, oneOf(db)));
      assert.equal(said, plain(client.source.svid.serialNumber));
      await client.rotate();
    }
    await assert.rejects(ask(port, clientOptions(client.source, oneOf(web))), /not one that is wanted here/);
    await assert.rejects(ask(port, clientOptions(server.source, oneOf(db))));
    assert.equal(await go.finish(), 0);
  });
});
