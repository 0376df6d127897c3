import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { openHttpListener } from '../../src/api/http-listener.ts';
import type { HttpListener } from '../../src/api/http-listener.ts';
import { recordingLog } from '../support/recording-log.ts';

let readiness = { ready: true, detail: '' };
let breaks = false;
const document = { contentType: 'application/json', text: '{"keys":[]}', maxAgeSeconds: 300 };
const log = recordingLog();
let listener: HttpListener;

before(async () => {
  listener = await openHttpListener({
    host: '127.0.0.1',
    port: 0,
    log,
    metrics: () =>
      breaks ? Promise.reject(new Error('the reason')) : Promise.resolve({ contentType: 'text/plain; version=0.0.4', text: 'up 1\n' }),
    readiness: () => readiness,
    pages: new Map([
      ['/keys', () => (breaks ? Promise.reject(new Error('the reason')) : Promise.resolve({ ...document }))],
      ['/metrics', () => Promise.resolve({ ...document })],
    ]),
  });
});
after(() => listener.close());

async function ask(path: string, method = 'GET', headers: Readonly<Record<string, string>> = {}) {
  const sent = request(`http://${listener.address}${path}`, { method, headers, agent: false }).end();
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  let body = '';
  for await (const chunk of response) body += String(chunk);
  return { status: response.statusCode, headers: response.headers, body };
}

describe('the HTTP listener', () => {
  it('is healthy, and ready when it can sign; else it says why not', async () => {
    assert.deepEqual([(await ask('/healthz')).status, (await ask('/readyz?verbose')).body], [200, 'ready\n']);
    readiness = { ready: false, detail: 'the clock is 10m behind' };
    const { status, body } = await ask('/readyz');
    assert.deepEqual([status, body], [503, 'not ready: the clock is 10m behind\n']);
    assert.equal((await ask('/healthz')).status, 200, 'not being ready is no reason to be killed');
    readiness = { ready: true, detail: '' };
  });

  it('has metrics, and a failure to make them is a 500 that says nothing', async () => {
    const page = await ask('/metrics');
    assert.deepEqual([page.status, page.body, page.headers['content-type']], [200, 'up 1\n', 'text/plain; version=0.0.4']);
    breaks = true;
    const failed = await ask('/metrics');
    breaks = false;
    assert.deepEqual([failed.status, failed.body], [500, 'internal error\n']);
    assert.equal(log.lines.length, 1);
  });

  it('has public documents, which may be kept for a while; one that can not be made is a 503 that may not', async () => {
    const page = await ask('/keys?x');
    assert.deepEqual([page.status, page.body, page.headers['content-type']], [200, '{"keys":[]}', 'application/json']);
    assert.equal(page.headers['cache-control'], 'public, max-age=300');
    assert.notEqual((await ask('/metrics')).body, page.body, 'none takes the place of a path of its own');
    breaks = true;
    const failed = await ask('/keys');
    breaks = false;
    assert.deepEqual([failed.status, failed.body, failed.headers['cache-control']], [503, 'not now\n', 'no-store']);
    assert.equal(log.lines.at(-1)?.level, 'warn');
  });

  it('answers HEAD without a body', async () => {
    const { status, body, headers } = await ask('/healthz', 'HEAD');
    assert.deepEqual([status, body, headers['content-length']], [200, '', '3']);
  });

  it('has nothing else, and takes no other method', async () => {
    for (const path of ['/', '/metrics/', '/%2e%2e/etc/passwd', '/debug/pprof']) assert.equal((await ask(path)).status, 404, path);
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE']) {
      const { status, headers } = await ask('/metrics', method);
      assert.deepEqual([status, headers.allow], [405, 'GET, HEAD'], method);
    }
  });

  it('refuses headers beyond 8 KiB and what is no HTTP', async () => {
    assert.equal((await ask('/healthz', 'GET', { 'x-long': 'a'.repeat(9000) })).status, 400);
    const [host = '', port = ''] = listener.address.split(':');
    const socket = connect(Number(port), host);
    socket.write('\x16\x03\x01\x02\x00garbage\r\n\r\n');
    const [bytes] = (await once(socket, 'data')) as [Buffer];
    assert.match(bytes.toString(), /^HTTP\/1\.1 400 /);
    socket.destroy();
  });

  it('says who has the port', async () => {
    const [host = '', port = ''] = listener.address.split(':');
    const options = { host, port: Number(port), log, metrics: () => Promise.reject(new Error()), readiness: () => readiness };
    await assert.rejects(openHttpListener(options), {
      code: 'CONFIG_INVALID',
      message: /^listen\.http: can't listen on .*another program has that address$/,
    });
  });
});
