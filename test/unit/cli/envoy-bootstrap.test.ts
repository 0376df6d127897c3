import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { recordingTerminal, runCli } from '../../support/recording-terminal.ts';
import { tempFolder } from '../../support/temp.ts';

/** A data folder as far as the command reads it. */
async function dataFolder() {
  const folder = await tempFolder();
  await writeFile(folder.file('folder.json'), JSON.stringify({ format: 1, mode: 'dev', trustDomain: 'example.org' }));
  await writeFile(folder.file('server-ca.pem'), 'anchors');
  return folder;
}

describe('signet envoy bootstrap', () => {
  it('knows trust domain and anchors from the data folder, and prints YAML that pins both', async () => {
    await using folder = await dataFolder();
    const { code, stdout } = await runCli(['envoy', 'bootstrap', '--data', folder.path, '--token-file', '/run/web.token']);
    assert.equal(code, 0);
    assert.deepEqual((parse(stdout) as { node: object }).node, { id: 'web', cluster: 'example.org' });
    assert.ok(stdout.includes(JSON.stringify(folder.file('server-ca.pem'))));
    assert.ok(stdout.includes('"spiffe://example.org/"'));
  });

  it('writes the second document beside the first, and only then', async () => {
    await using folder = await dataFolder();
    const args = ['envoy', 'bootstrap', '--data', folder.path, '--auth', 'envoy-grpc-token', '--token-file', '/run/web.token'];
    const refused = await runCli(args);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /needs --out FILE/);
    const written = await runCli([...args, '--out', folder.file('web.yaml')]);
    assert.deepEqual([written.code, written.stdout], [0, '']);
    const second = folder.file('web-token.yaml');
    assert.ok((await readFile(folder.file('web.yaml'), 'utf8')).includes(JSON.stringify(second)));
    assert.match(await readFile(second, 'utf8'), /\/run\/web\.token/);
  });

  it('takes secrets from an agent, whatever server this session is about', async () => {
    const agent = ['envoy', 'bootstrap', '--agent', '/run/signet/web/agent.sock', '--trust-domain', 'example.org'];
    const { code, stdout } = await runCli(agent, recordingTerminal({ env: { SIGNET_DATA: '/srv/signet' } }));
    assert.equal(code, 0);
    assert.ok(!stdout.includes('/srv/signet'));
    const both = await runCli([...agent, '--data', '/srv/signet']);
    assert.equal(both.code, 2);
    assert.match(both.stderr, /--agent needs no --data/);
  });

  it('speaks Delta, calls upstreams and limits callers when told to', async () => {
    await using folder = await dataFolder();
    const { stdout } = await runCli([
      ...['envoy', 'bootstrap', '--data', folder.path, '--token-file', 't', '--api', 'delta', '--caller', 'spiffe://example.org/ns/a/sa/b'],
      ...['--upstream', 'orders=127.0.0.1:9001,[::1]:15006,spiffe://example.org/ns/a/sa/orders'],
    ]);
    assert.match(stdout, /api_type: DELTA_GRPC/);
    assert.ok(stdout.includes('"spiffe://example.org/ns/a/sa/orders"'));
    assert.ok(stdout.includes('"::1"'));
    assert.ok(!stdout.includes('prefix: "spiffe://example.org/"'));
  });

  it('is wrong usage without what it can’t know', async () => {
    assert.equal((await runCli(['envoy', 'bootstrap', '--ca', 'x', '--token-file', 't'])).code, 2);
    assert.equal((await runCli(['envoy', 'bootstrap', '--ca', 'x', '--trust-domain', 'Not One', '--token-file', 't'])).code, 2);
    assert.equal((await runCli(['envoy', 'bootstrap', '--ca', 'x', '--trust-domain', 'example.org'])).code, 2);
    const badUpstream = await runCli([
      'envoy',
      'bootstrap',
      '--ca',
      'x',
      '--trust-domain',
      'example.org',
      '--token-file',
      't',
      '--upstream',
      'orders',
    ]);
    assert.equal(badUpstream.code, 2);
  });

  it('says so when the folder is no server’s', async () => {
    await using folder = await tempFolder();
    const { code, stderr } = await runCli(['envoy', 'bootstrap', '--data', folder.path, '--token-file', 't']);
    assert.equal(code, 1);
    assert.match(stderr, /start the server once/);
  });
});
