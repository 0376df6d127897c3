import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { Agent, get } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { startApplication } from '../../../src/cli/demo/application.ts';
import { isChain, loadLine } from '../../../src/cli/demo/load.ts';
import { knock } from '../../../src/cli/demo/stranger.ts';
import { count, newTally } from '../../../src/cli/demo/tally.ts';
import { createDevIssuerKey } from '../../../src/identity/dev-issuer.ts';
import { eventually } from '../../support/eventually.ts';
import { freePort } from '../../support/ports.ts';
import { recordingTerminal, runCli } from '../../support/recording-terminal.ts';
import { tempFolder } from '../../support/temp.ts';
import { testPki } from '../../support/test-pki.ts';

const host = '127.0.0.1';
const id = (service: string): string => `spiffe://cluster.local/ns/shop/sa/${service}`;

describe('a service of the demo', () => {
  it('says who called, as its Envoy tells it, and what the next service said', async () => {
    const orders = await startApplication({ name: 'orders', host, port: 0 });
    const web = await startApplication({ name: 'web', host, port: 0, next: { host, port: orders.port } });
    const headers = { 'x-forwarded-client-cert': `Hash=00;URI=${id('load')};By=x` };
    const response = await fetch(`http://${host}:${String(web.port)}/`, { headers });
    assert.deepEqual(await response.json(), { service: 'web', caller: id('load'), next: { service: 'orders', caller: '' } });
    await orders.close();
    const without = await fetch(`http://${host}:${String(web.port)}/`);
    assert.equal(without.status, 502);
    // Its own health doesn't hang on others'.
    const health = await fetch(`http://${host}:${String(web.port)}/healthz`);
    assert.equal(health.status, 200);
    await web.close();
  });

  it('never closes a connection that its Envoy may be about to use again', async () => {
    const orders = await startApplication({ name: 'orders', host, port: 0 });
    const agent = new Agent({ keepAlive: true });
    const [response] = (await once(get({ host, port: orders.port, agent }), 'response')) as [IncomingMessage];
    response.resume();
    const { connection, 'keep-alive': seconds } = response.headers;
    agent.destroy();
    await orders.close();
    // Node says after how many seconds it would.
    assert.deepEqual({ connection, seconds }, { connection: 'keep-alive', seconds: undefined });
  });

  it('ends with 0 when told to', async () => {
    const terminal = recordingTerminal();
    const running = runCli(['demo', 'service', '--name', 'web', '--listen', `${host}:0`], terminal);
    setTimeout(terminal.interrupt, 50);
    assert.equal((await running).code, 0);
  });
});

describe('what counts as a good answer of a mesh', () => {
  const payments = { service: 'payments', caller: id('orders') };
  const orders = { service: 'orders', caller: id('load'), next: payments };

  it('is one where each service is who it should be and saw exactly the one before it', () => {
    assert.equal(isChain(orders, id('orders'), id('load')), true);
    assert.equal(isChain({ ...orders, caller: id('web') }, id('orders'), id('load')), false);
    assert.equal(isChain({ ...orders, caller: '' }, id('orders'), id('load')), false);
    assert.equal(isChain({ ...orders, service: 'web' }, id('orders'), id('load')), false);
    assert.equal(isChain({ ...orders, next: { ...payments, caller: id('web') } }, id('orders'), id('load')), false);
    assert.equal(isChain({ ...orders, next: { ...payments, caller: 'spiffe://evil/ns/shop/sa/orders' } }, id('orders'), id('load')), false);
  });
});

describe('the line of the load generator', () => {
  it('has the requests, the failures with their newest reasons, and the distinct serials', () => {
    let tally = newTally(0, ['web', 'orders']);
    for (const [i, serial] of ['a', 'a', 'b'].entries()) tally = count(tally, 'web', { ok: true, serial }, i);
    for (const i of [1, 2, 3, 4, 5]) tally = count(tally, 'orders', { ok: false, error: `reason ${String(i)}` }, i);
    const line = loadLine(tally, 1_000_000, { ended: true, heldUpMs: 7 });
    const { requests, failed, ended, heldUpMs } = line;
    assert.deepEqual({ requests, failed, ended, heldUpMs }, { requests: 8, failed: 5, ended: true, heldUpMs: 7 });
    const [web, orders] = line.services;
    assert.equal(web?.distinctSerials, 2);
    assert.deepEqual(orders?.errors, ['reason 3', 'reason 4', 'reason 5']);
  });
});

describe('one without a certificate', () => {
  it('is refused by a door that asks for one', async () => {
    const pki = await testPki();
    const { certificatePem, keyPem } = await pki.server();
    const tls = { cert: certificatePem, key: keyPem, ca: pki.rootPem, requestCert: true, rejectUnauthorized: true };
    const door = createServer(tls, (_request, response) => response.end('in')).listen(0, host);
    await once(door, 'listening');
    const { port } = door.address() as AddressInfo;
    const tries = await knock({ host, port });
    assert.deepEqual(
      tries.map(({ how, refused }) => ({ how, refused })),
      [
        { how: 'in clear', refused: true },
        { how: 'TLS without a certificate', refused: true },
      ],
    );
    door.close();
  });

  it('notices when it is let in: by TLS, or in clear', async () => {
    const pki = await testPki();
    const { certificatePem, keyPem } = await pki.server();
    const open = createServer({ cert: certificatePem, key: keyPem }, (_request, response) => response.end('in')).listen(0, host);
    await once(open, 'listening');
    const [, bare] = await knock({ host, port: (open.address() as AddressInfo).port });
    assert.deepEqual({ refused: bare?.refused, outcome: bare?.outcome }, { refused: false, outcome: 'HTTP 200' });
    open.close();

    const clear = await startApplication({ name: 'web', host, port: 0 });
    const { code, stdout } = await runCli(['demo', 'stranger', '--target', `${host}:${String(clear.port)}`]);
    assert.equal(code, 1);
    assert.match(stdout, /"how":"in clear","refused":false,"outcome":"HTTP 200"/);
    await clear.close();
  });

  it('does not take a door that is not there for one that refuses', async () => {
    const tries = await knock({ host, port: await freePort() });
    assert.deepEqual(
      tries.map(({ refused, outcome }) => ({ refused, outcome })),
      [
        { refused: false, outcome: 'ECONNREFUSED' },
        { refused: false, outcome: 'ECONNREFUSED' },
      ],
    );
  });
});

describe('the tokens of the demo', () => {
  it('are files of their owner alone, without a newline, beside what the server is pinned to', async () => {
    await using data = await tempFolder();
    await using out = await tempFolder();
    await writeFile(data.file('issuer.key'), createDevIssuerKey(), { mode: 0o600 });
    await writeFile(data.file('server-ca.pem'), 'the anchor');
    const terminal = recordingTerminal();
    const running = runCli(['demo', 'tokens', '--data', data.path, '--out', out.path, 'web', 'orders'], terminal);
    const last = join(out.path, 'orders', 'token');
    await eventually('the last token', () => readFile(last, 'utf8'));
    for (const service of ['web', 'orders']) {
      const file = join(out.path, service, 'token');
      assert.match(await readFile(file, 'utf8'), /^[\w-]+\.[\w-]+\.[\w-]+$/);
      assert.equal((await stat(file)).mode & 0o777, 0o600);
      assert.equal(await readFile(join(out.path, service, 'server-ca.pem'), 'utf8'), 'the anchor');
    }
    terminal.interrupt();
    assert.deepEqual(await running, { code: 0, stdout: '', stderr: '' });
  });
});
