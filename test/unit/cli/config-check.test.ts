import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { recordingTerminal, runCli } from '../../support/recording-terminal.ts';
import { tempFolder } from '../../support/temp.ts';

const good = `trustDomain: example.org
data: ./data
ca: { keyEncryption: { keyFile: /etc/signet/kek } }
identity:
  issuers:
  - { id: prod, issuer: "https://kubernetes.default.svc", jwks: /etc/signet/jwks.json, allow: ["/ns/*/sa/*"] }
`;

async function check(yaml: string, ...more: readonly string[]) {
  await using folder = await tempFolder();
  await writeFile(folder.file('signet.yaml'), yaml);
  return await runCli(['config', 'check', '--config', folder.file('signet.yaml'), ...more]);
}

describe('signet config check', () => {
  it('is content with a good file', async () => {
    const { code, stdout, stderr } = await check(good);
    assert.deepEqual([code, stderr], [0, '']);
    assert.match(stdout, /signet\.yaml: ok/);
  });

  it('gives every mistake with its line and column, and exits with 1', async () => {
    const { code, stdout, stderr } = await check(`${good}listen: { gprc: "0.0.0.0:8443" }\npolicy: { defaults: { tier: slow } }\n`);
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, /signet\.yaml:7:\d+: listen\.gprc: there is no such setting \(did you mean "grpc"\?\)/);
    const onlyTier = await check(`${good}policy: { defaults: { tier: slow } }\n`);
    assert.match(onlyTier.stderr, /signet\.yaml:7:\d+: policy\.defaults\.tier/);
  });

  it('finds issuers that could speak for the same identities', async () => {
    const { code, stderr } = await check(
      `${good}  - { id: other, issuer: "https://elsewhere", jwks: /etc/signet/other.json, allow: ["/ns/*/sa/*"] }\n`,
    );
    assert.equal(code, 1);
    assert.match(stderr, /overlaps issuer "prod"/);
  });

  it('prints the same as JSON', async () => {
    const { code, stdout } = await check(`${good}log: { level: loud }\n`, '--json');
    assert.equal(code, 1);
    const { ok, problems } = JSON.parse(stdout) as { ok: boolean; problems: readonly { path: string; where: string }[] };
    assert.equal(ok, false);
    assert.deepEqual(
      problems.map(({ path }) => path),
      ['log.level'],
    );
  });

  it('counts the environment, as the server does', async () => {
    await using folder = await tempFolder();
    await writeFile(folder.file('signet.yaml'), good);
    const terminal = recordingTerminal({ env: { SIGNET_LISTEN__GRPC: 'nowhere' } });
    const { code, stderr } = await runCli(['config', 'check', folder.file('signet.yaml')], terminal);
    assert.equal(code, 1);
    assert.match(stderr, /SIGNET_LISTEN__GRPC/);
  });

  it('names a file that can’t be read', async () => {
    const { code, stderr } = await runCli(['config', 'check', '/nonexistent/signet.yaml']);
    assert.equal(code, 1);
    assert.match(stderr, /\/nonexistent\/signet\.yaml/);
  });

  it('gives editors a JSON Schema', async () => {
    const { code, stdout } = await runCli(['config', 'schema']);
    assert.equal(code, 0);
    assert.ok('trustDomain' in (JSON.parse(stdout) as { properties: object }).properties);
  });
});
