import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { runCli } from '../../support/recording-terminal.ts';

describe('signet agent', () => {
  it('is wrong usage without a word of whom to serve, or with an address that is none', async () => {
    const { code, stderr } = await runCli(['agent']);
    assert.equal(code, 2);
    assert.match(stderr, /give --config FILE, or --server/);
    assert.equal((await runCli(['agent', '--server', 'nowhere'])).code, 2);
  });

  it('says all that one workload still needs', async () => {
    const { code, stderr } = await runCli(['agent', '--server', 'signet.example.org:8443', '--socket', '/tmp/w/agent.sock']);
    assert.equal(code, 1);
    for (const word of ['trustDomain: is required', 'workloads[0].tokenFile: is required']) assert.ok(stderr.includes(word), stderr);
  });

  it('has its configuration checked by itself', async () => {
    const { code, stderr } = await runCli(['config', 'check', '--agent', '/nowhere/agent.yaml']);
    assert.equal(code, 1);
    assert.match(stderr, /no such file/);
    const schema = JSON.parse((await runCli(['config', 'schema', '--agent'])).stdout) as { readonly properties: object };
    assert.ok('workloads' in schema.properties);
  });
});

describe('signet envoy bootstrap --agent', () => {
  it('needs nothing of the server', async () => {
    const { code, stdout } = await runCli(['envoy', 'bootstrap', '--agent', '/run/signet/web/agent.sock', '--trust-domain', 'example.org']);
    assert.equal(code, 0);
    assert.match(stdout, /pipe: \{ path: "\/run\/signet\/web\/agent\.sock" \}/);
    assert.match(stdout, /id: "web"/);
    assert.doesNotMatch(stdout, /signet\/server|8443/);
  });

  it('is wrong usage without the trust domain, or with a way to reach a server as well', async () => {
    assert.equal((await runCli(['envoy', 'bootstrap', '--agent', '/run/a'])).code, 2);
    assert.equal((await runCli(['envoy', 'bootstrap', '--agent', '/run/a', '--trust-domain', 'x', '--token-file', 't'])).code, 2);
  });
});
