import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { checkAgentConfig, loadAgentConfig } from '../../../src/agent/config/load.ts';
import { formatProblem } from '../../../src/config/problems.ts';
import { tempFolder } from '../../support/temp.ts';

const good = `trustDomain: example.org
servers: [signet.example.org:8443]
serverTrust:
  caFile: server-ca.pem
workloads:
- name: web
  tokenFile: web/token
  socket: web/agent.sock
`;

async function problemsOf(yaml: string, env: Readonly<Record<string, string>> = {}): Promise<readonly string[]> {
  await using folder = await tempFolder();
  const file = folder.file('agent.yaml');
  await writeFile(file, yaml);
  const { problems } = await checkAgentConfig({ file, env });
  return problems.map((problem) => formatProblem(problem).replaceAll(`${folder.path}/`, ''));
}

describe("the agent's configuration", () => {
  it('has paths relative to its file, and defaults', async () => {
    await using folder = await tempFolder();
    const file = folder.file('agent.yaml');
    await writeFile(file, good);
    const config = await loadAgentConfig({ file, env: {} });
    assert.equal(config.serverTrust.caFile, folder.file('server-ca.pem'));
    const { tokenFile, socket, mode, keyType } = config.workloads[0] ?? {};
    assert.deepEqual(
      { tokenFile, socket, mode, keyType },
      { tokenFile: folder.file('web/token'), socket: folder.file('web/agent.sock'), mode: '0700', keyType: 'ec-p256' },
    );
    assert.equal(config.renewByCertificate, true);
    assert.equal(config.listen.http, undefined);
  });

  it('comes from flags over the environment over the file', async () => {
    await using folder = await tempFolder();
    const file = folder.file('agent.yaml');
    await writeFile(file, good);
    const env = {
      SIGNET_SERVERS: 'a.example.org:1,b.example.org:2',
      SIGNET_LISTEN__HTTP: '127.0.0.1:1',
      SIGNET_SEALING_KEY: 'x',
      SIGNET_DATA: 'y',
    };
    const config = await loadAgentConfig({ file, env, flags: { 'listen.http': '127.0.0.1:2' } });
    assert.deepEqual(config.servers, ['a.example.org:1', 'b.example.org:2']);
    assert.equal(config.listen.http, '127.0.0.1:2');
  });

  it('can be flags alone, for one workload', async () => {
    const flags = {
      servers: 'signet.example.org:8443',
      trustDomain: 'example.org',
      'serverTrust.pinnedSpki': 'a'.repeat(64),
      'workloads.0.name': 'workload',
      'workloads.0.tokenFile': 'token',
      'workloads.0.socket': 'w/agent.sock',
    };
    const config = await loadAgentConfig({ env: {}, flags, cwd: '/somewhere' });
    assert.equal(config.workloads.length, 1);
    assert.equal(config.workloads[0]?.socket, '/somewhere/w/agent.sock');
    const { problems } = await checkAgentConfig({ env: {}, flags: { ...flags, 'workloads.0.tokenFile': undefined } });
    assert.deepEqual(
      problems.map(({ path }) => path),
      ['workloads[0].tokenFile'],
    );
  });

  it('refuses keys that it does not know, each with its line and column', async () => {
    const [problem] = await problemsOf(good.replace('tokenFile: web/token', 'tokenfile: web/token\n  tokenFile: web/token'));
    assert.equal(problem, 'agent.yaml:7:3: workloads[0].tokenfile: there is no such setting (did you mean "tokenFile"?)');
    assert.match((await problemsOf(`${good}  files: { folder: tls, comand: [/bin/true] }\n`))[0] ?? '', /did you mean "command"/);
    assert.match((await problemsOf(good, { SIGNET_CACHE__FOLDR: 'x' }))[0] ?? '', /did you mean SIGNET_CACHE__FOLDER/);
  });

  for (const [what, yaml, message] of [
    ['no way to know the server', good.replace('  caFile: server-ca.pem', '  name: signet.example.org'), /needs caFile or pinnedSpki/],
    ['two ways', good.replace('caFile: server-ca.pem', `caFile: a\n  pinnedSpki: [${'a'.repeat(64)}]`), /both caFile and pinnedSpki/],
    ['a pin that is none', good.replace('caFile: server-ca.pem', 'pinnedSpki: [abc]'), /64 hexadecimal digits/],
    ['a long path', good.replace('web/agent.sock', `/run/${'x'.repeat(110)}`), /at most 107 bytes/],
    ['a group mode without a group', `${good}  mode: "0750"\n`, /group: is required with mode 0750/],
    ['a group that can not enter', `${good}  group: web\n`, /no use with mode 0700/],
    ['a folder for two', `${good}- name: api\n  tokenFile: t\n  socket: web/other.sock\n`, /folder of its own/],
    ['a name for two', `${good}- name: web\n  tokenFile: t\n  socket: api/agent.sock\n`, /name of a workload above/],
    ['another trust domain', `${good}  spiffeId: spiffe://other.org/web\n`, /not of the trust domain example\.org/],
    ['a key beside what it seals', `${good}cache: { folder: cache, sealingKeyFile: cache/key }\n`, /beside what it seals/],
    [
      'files in a folder for two',
      `${good}- name: api\n  tokenFile: t\n  socket: api/s\n  files: { folder: web }\n`,
      /is another workload's/,
    ],
    ['files beside the cache', `${good}  files: { folder: cache/tls }\ncache: { folder: cache }\n`, /is in the cache folder/],
    ['one name for two files', `${good}  files: { folder: tls, key: tls.crt }\n`, /one name for two files/],
    ['a file elsewhere', `${good}  files: { folder: tls, key: ../tls.key }\n`, /plain file name/],
    ['a hidden file', `${good}  files: { folder: tls, bundle: ..data }\n`, /plain file name/],
    ['a command by a name alone', `${good}  files: { folder: tls, command: [nginx, -s, reload] }\n`, /absolute path of a program/],
    ['a command that may take for ever', `${good}  files: { folder: tls, commandTimeout: 1h }\n`, /too long/],
    ['PKCS#12 without a password', `${good}  files: { folder: tls, pkcs12: {} }\n`, /pkcs12\.passwordFile: /],
    ['a listener for the world', `${good}listen: { http: "0.0.0.0:80" }\n`, /not on loopback/],
  ] as const) {
    it(`refuses ${what}`, async () => {
      const problems = await problemsOf(yaml);
      assert.equal(problems.length, 1, problems.join('\n'));
      assert.match(problems[0] ?? '', message);
      assert.match(problems[0] ?? '', /^agent\.yaml:\d+:\d+: /);
    });
  }
});
