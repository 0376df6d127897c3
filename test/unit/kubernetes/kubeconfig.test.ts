import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { inClusterAccess } from '../../../src/kubernetes/in-cluster.ts';
import { accessFrom, readKubeconfig } from '../../../src/kubernetes/kubeconfig.ts';
import { failureOf } from '../../support/failure.ts';
import { tempFolder } from '../../support/temp.ts';

const cluster = { server: 'https://api.example:6443', 'certificate-authority': 'ca.crt' };

function kubeconfig(parts: { readonly cluster?: object; readonly user?: object; readonly current?: string } = {}): object {
  return {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'c', cluster: { ...cluster, ...parts.cluster } }],
    users: [
      { name: 'u', user: parts.user ?? { token: 'secret' } },
      { name: 'other', user: { tokenFile: '/run/token' } },
    ],
    contexts: [
      { name: 'x', context: { cluster: 'c', user: 'u', namespace: 'default' } },
      { name: 'y', context: { cluster: 'c', user: 'other' } },
    ],
    'current-context': parts.current ?? 'x',
  };
}

const at = '/etc/signet/kubeconfig';

describe('a kubeconfig', () => {
  it('gives server, CA and credential of its current context, files beside it', () => {
    assert.deepEqual(accessFrom(kubeconfig(), at, undefined), {
      server: new URL('https://api.example:6443'),
      serverName: undefined,
      ca: { file: '/etc/signet/ca.crt' },
      credential: { kind: 'token', token: { text: 'secret' } },
    });
  });

  it('gives those of another context if one is named', () => {
    assert.deepEqual(accessFrom(kubeconfig(), at, 'y').credential, { kind: 'token', token: { file: '/run/token' } });
  });

  it('takes a client certificate, and what is inline before what is in a file', () => {
    const user = { 'client-certificate': 'a.crt', 'client-key': 'a.key', 'client-key-data': Buffer.from('KEY').toString('base64') };
    assert.deepEqual(accessFrom(kubeconfig({ user }), at, undefined).credential, {
      kind: 'certificate',
      certificate: { file: '/etc/signet/a.crt' },
      key: { text: 'KEY' },
    });
  });

  const refused: readonly (readonly [what: string, config: unknown, message: RegExp])[] = [
    ['a plugin to run', kubeconfig({ user: { exec: { command: 'aws' } } }), /exec .* refused.*tokenFile/],
    ['an auth-provider', kubeconfig({ user: { 'auth-provider': { name: 'gcp' } } }), /auth-provider/],
    ['a password', kubeconfig({ user: { username: 'u', password: 'hunter2' } }), /passwords/],
    ['impersonation', kubeconfig({ user: { token: 'secret', as: 'root' } }), /impersonation/],
    ['a certificate without its key', kubeconfig({ user: { 'client-certificate': 'a.crt' } }), /no token, tokenFile or client certificate/],
    ['no verification', kubeconfig({ cluster: { 'insecure-skip-tls-verify': true } }), /insecure-skip-tls-verify/],
    ['a proxy', kubeconfig({ cluster: { 'proxy-url': 'http://proxy' } }), /proxy-url/],
    ['plain http', kubeconfig({ cluster: { server: 'http://api.example' } }), /https/],
    ['an unknown context', kubeconfig({ current: 'z' }), /no context "z"/],
    ['no context', kubeconfig({ current: '' }), /current-context/],
    ['something else', { kind: 'Config' }, /clusters/],
    ['nothing', null, /missing or of another form/],
  ];
  for (const [what, config, message] of refused) {
    it(`is refused with ${what}`, async () => {
      const failure = await failureOf(() => accessFrom(config, at, undefined));
      assert.equal(failure.code, 'CONFIG_INVALID');
      assert.match(failure.message, message);
      assert.match(failure.message, /^kubeconfig \/etc\/signet\/kubeconfig/);
      assert.doesNotMatch(failure.message, /hunter2|secret/);
    });
  }

  it('is read as YAML; what is none is not quoted', async () => {
    await using folder = await tempFolder();
    const file = folder.file('kubeconfig');
    await writeFile(file, JSON.stringify(kubeconfig()));
    assert.equal((await readKubeconfig(file, undefined)).server.href, 'https://api.example:6443/');
    await writeFile(file, 'token: "hunter2\n');
    const failure = await failureOf(readKubeconfig(file, undefined));
    assert.match(failure.message, /is not YAML/);
    assert.doesNotMatch(`${failure.message} ${String(failure.cause)}`, /hunter2/);
    assert.match((await failureOf(readKubeconfig(folder.file('none'), undefined))).message, /can't be read/);
  });
});

describe('in a pod', () => {
  it('the environment says where the API server is', () => {
    assert.equal(
      inClusterAccess({ KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '6443' }).server.href,
      'https://[fd00::1]:6443/',
    );
  });
  it('elsewhere it says what is missing', async () => {
    assert.match((await failureOf(() => inClusterAccess({}))).message, /no kubeconfig is set.*KUBERNETES_SERVICE_HOST/);
  });
});
