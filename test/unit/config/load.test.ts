import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { checkConfig, loadConfig } from '../../../src/server/config/load.ts';
import type { ConfigSources } from '../../../src/server/config/load.ts';
import { formatProblem } from '../../../src/config/problems.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'signet-config-'));
});
after(() => rm(folder, { recursive: true }));

const production = `trustDomain: example.org
data: data
listen:
  grpc: 0.0.0.0:8443
  names: [signet.example.org, 10.0.0.1]
identity:
  issuers:
    - id: cluster
      issuer: https://kubernetes.default.svc
      jwks: jwks.json
      allow: ["**"]
ca:
  keyEncryption:
    keyFile: /etc/signet/kek
`;

async function written(text: string): Promise<string> {
  const file = join(folder, `signet-${String(Math.random()).slice(2)}.yaml`);
  await writeFile(file, text);
  return file;
}

async function load(text: string, more: Partial<ConfigSources> = {}) {
  return loadConfig({ file: await written(text), env: {}, ...more });
}

/** The problems of a file, without its folder. */
async function problems(text: string, more: Partial<ConfigSources> = {}): Promise<string[]> {
  const file = await written(text);
  const checked = await checkConfig({ file, env: {}, ...more });
  assert.equal(checked.config, undefined, 'the mistake was not noticed');
  return checked.problems.map((problem) => formatProblem(problem).replace(file, 'signet.yaml'));
}

describe('a good configuration', () => {
  it('has milliseconds, absolute paths and every default', async () => {
    const config = await load(production);
    assert.equal(config.identity.maxTokenLifetime, 86_400_000);
    assert.equal(config.identity.reauthenticateAfter, 7 * 86_400_000);
    assert.equal(config.data, join(folder, 'data'));
    assert.equal(config.identity.issuers[0]?.jwks, join(folder, 'jwks.json'));
    assert.equal(config.listen.admin, join(folder, 'data/admin.sock'));
    assert.deepEqual(config.policy.tiers, { critical: 43_200_000, standard: 86_400_000, dev: 604_800_000 });
    assert.equal(config.policy.defaults.keyMode, 'csr');
    assert.equal(config.ca.default, 'builtin');
    assert.deepEqual(config.store, { type: 'sqlite', retainExpired: 30 * 86_400_000 });
  });

  it('leaves an https URL of keys alone, and takes an empty environment variable for an unset one', async () => {
    const config = await load(production.replace('jwks.json', 'https://keys.example.org/jwks'), { env: { SIGNET_TRUSTDOMAIN: '' } });
    assert.equal(config.identity.issuers[0]?.jwks, 'https://keys.example.org/jwks');
    assert.equal(config.trustDomain, 'example.org');
  });

  it('takes flags over environment over file over defaults', async () => {
    const env = { SIGNET_LISTEN__GRPC: '127.0.0.1:2', SIGNET_LISTEN__HTTP: '127.0.0.1:3', SIGNET_LOG__LEVEL: 'debug' };
    const config = await load(production, { env, flags: { 'listen.grpc': '127.0.0.1:4', 'listen.http': undefined } });
    assert.equal(config.listen.grpc, '127.0.0.1:4');
    assert.equal(config.listen.http, '127.0.0.1:3');
    assert.equal(config.log.level, 'debug');
    assert.equal((await load(production)).log.level, 'info');
  });

  it("takes lists, names of one's own and whole groups from the environment", async () => {
    const env = {
      SIGNET_IDENTITY__ISSUERS__0__AUDIENCES: 'a, b',
      SIGNET_IDENTITY__ISSUERS__0__ALLOW__1: '/ns/shop/**',
      SIGNET_IDENTITY__ISSUERS__1: '{id: other, issuer: x, jwks: other.json, path: "/other/{/sub}", allow: ["*"]}',
      SIGNET_POLICY__TIERS__VERY_SHORT: '10s',
      SIGNET_LIMITS__STREAMSPERIDENTITY: '7',
      SIGNET_CA__BACKENDS__BUILTIN__TYPE: 'builtin',
      SIGNET_CA__BACKENDS__BUILTIN__ROOTLIFE: '730d',
    };
    const config = await load(production, { env, cwd: '/somewhere' });
    assert.deepEqual(config.identity.issuers[0]?.audiences, ['a', 'b']);
    assert.deepEqual(config.identity.issuers[0].allow, ['**', '/ns/shop/**']);
    assert.equal(config.identity.issuers[1]?.jwks, '/somewhere/other.json');
    assert.equal(config.policy.tiers['very-short'], 10_000);
    assert.equal(config.policy.tiers.standard, 86_400_000, "tiers of one's own stand beside the known ones");
    assert.equal(config.limits.streamsPerIdentity, 7);
    assert.deepEqual(config.ca.backends.builtin, { type: 'builtin', rootLife: 730 * 86_400_000, intermediateLife: 365 * 86_400_000 });
  });

  it('ignores what Kubernetes puts into the environment beside a Service named signet', async () => {
    const env = {
      SIGNET_SERVICE_HOST: '10.0.0.1',
      SIGNET_PORT: 'tcp://10.0.0.1:8443',
      SIGNET_PORT_8443_TCP_PORT: '8443',
      SIGNET_SERVICE_PORT_GRPC: '1',
    };
    assert.equal((await load(production, { env })).trustDomain, 'example.org');
  });

  it('is whole with --dev and nothing else', async () => {
    const config = await loadConfig({ env: {}, flags: { data: '/tmp/x', 'policy.tiers.dev': '20s' }, dev: true });
    assert.equal(config.trustDomain, 'cluster.local');
    assert.equal(config.policy.defaults.keyMode, 'server');
    assert.equal(config.policy.tiers[config.policy.defaults.tier], 20_000);
    assert.ok(config.listen.names.includes('localhost') && config.listen.names.includes('127.0.0.1'));
  });
});

describe('JWT-SVIDs', () => {
  it('have a short life, keys of a day, and an issuer only where one is given', async () => {
    const { jwt } = await load(production);
    assert.deepEqual(jwt, { ttl: 300_000, keyLife: 86_400_000, refreshHint: 300_000 });
    const given = await load(`${production}jwt: { issuer: https://oidc.example.org/mesh }\n`);
    assert.equal(given.jwt.issuer, 'https://oidc.example.org/mesh');
  });

  const issuers: readonly (readonly [text: string, says: RegExp])[] = [
    ['http://oidc.example.org', /must be an https/],
    ['oidc.example.org', /must be an https/],
    ['https://oidc.example.org/', /must not end with a slash/],
    ['https://user@oidc.example.org', /user or a password/],
    ['https://oidc.example.org?a=b', /query/],
    ['https://OIDC.example.org', /usual form/],
    ['https://oidc.example.org:443', /usual form/],
    ['https://oidc.example.org/a/../b', /usual form/],
  ];
  for (const [text, says] of issuers) {
    it(`have no issuer like ${text}`, async () => {
      const [problem = ''] = await problems(`${production}jwt: { issuer: "${text}" }\n`);
      assert.match(problem, /^signet\.yaml:15:16: jwt\.issuer: /);
      assert.match(problem, says);
    });
  }

  it('have keys that everybody can learn of in time', async () => {
    assert.match((await problems(`${production}jwt: { keyLife: 59m }\n`)).join(), /jwt\.keyLife: is less than 12 times.*at least 1h/);
    assert.match(
      (await problems(`${production}jwt: { keyLife: 1h, refreshHint: 1s, ttl: 31m }\n`)).join(),
      /jwt\.keyLife: is less than twice jwt\.ttl.*at least 1h2m/,
    );
    assert.match((await problems(`${production}jwt: { ttl: 61m }\n`)).join(), /jwt\.ttl: 61m is too long/);
  });
});

describe('each kind of mistake', () => {
  const cases: readonly { readonly what: string; readonly text: string; readonly says: RegExp; readonly more?: Partial<ConfigSources> }[] =
    [
      {
        what: 'a misspelt key at the top',
        text: production.replace('listen:', 'listne:'),
        says: /^signet\.yaml:3:1: listne: there is no such setting \(did you mean "listen"\?\)$/,
      },
      {
        what: 'a misspelt key in a list',
        text: production.replace('jwks:', 'jwk:'),
        says: /^signet\.yaml:10:7: identity\.issuers\[0\]\.jwk: there is no such setting \(did you mean "jwks"\?\)$/,
      },
      {
        what: 'a key like no other',
        text: `${production}zebra: 1\n`,
        says: /^signet\.yaml:15:1: zebra: there is no such setting \(known here: trustDomain, data, /,
      },
      {
        what: 'a duration without a unit',
        text: `${production}limits:\n  maxStreamAge: 20\n`,
        says: /^signet\.yaml:16:17: limits\.maxStreamAge: must be text, but is a number \(a duration needs a unit: write for example 20s/,
      },
      {
        what: 'a duration of another form',
        text: `${production}limits:\n  maxStreamAge: soon\n`,
        says: /^signet\.yaml:16:17: limits\.maxStreamAge: "soon" is not a duration/,
      },
      {
        what: 'a tier above the maximum',
        text: `${production}policy:\n  tiers: {standard: 91d}\n`,
        says: /^signet\.yaml:16:21: policy\.tiers\.standard: 91d is too long$/,
      },
      {
        what: 'an address without a port',
        text: production.replace('0.0.0.0:8443', '0.0.0.0'),
        says: /^signet\.yaml:4:9: listen\.grpc: must be HOST:PORT/,
      },
      {
        what: 'a port too large',
        text: production.replace('8443', '99999'),
        says: /^signet\.yaml:4:9: listen\.grpc: the port must be 0 to 65535$/,
      },
      {
        what: 'a group left empty',
        text: `${production}limits:\n`,
        says: /^signet\.yaml:15:8: limits: is empty, but must be a group of settings/,
      },
      {
        what: 'a list where text belongs',
        text: production.replace('example.org\n', '[a]\n'),
        says: /^signet\.yaml:1:1: trustDomain: must be text, but is a list$/,
      },
      {
        what: 'a trust domain in capitals',
        text: production.replace('example.org\n', 'Example.org\n'),
        says: /^signet\.yaml:1:14: trustDomain: a trust domain is/,
      },
      {
        what: 'no trust domain',
        text: production.replace('trustDomain: example.org\n', ''),
        says: /: trustDomain: is required \(The trust domain/,
      },
      {
        what: 'a backend of an unknown type',
        text: `${production}  backends: {main: {type: buildin}}\n`,
        says: /^signet\.yaml:15:27: ca\.backends\.main\.type: there is no such type \(did you mean "builtin"\?\)$/,
      },
      {
        what: 'a backend without a type',
        text: `${production}  backends: {main: {key: x}}\n`,
        says: /ca\.backends\.main\.type: is required \(one of builtin, files[a-z, -]*\)$/,
      },
      {
        what: 'a tier too short for Kubernetes',
        text: `${production}  backends: {main: {type: kubernetes-csr, signerName: a.example/b, rootsFrom: {file: x}}}\npolicy: {tiers: {short: 20m}, defaults: {tier: short}}\n`,
        says: /policy\.defaults\.tier: tier short gives 20m, and backend main \(kubernetes-csr\) can't be asked for less than 10m/,
      },
      {
        what: 'a rule whose tier is too short for its backend',
        text: `${production}  backends: {main: {type: builtin}, k: {type: kubernetes-csr, signerName: a.example/b, rootsFrom: {file: x}}}\n  default: main\npolicy: {tiers: {short: 20m}, rules: [{match: "/x", tier: short}, {match: "/y", tier: short, backend: k}]}\n`,
        says: /policy\.rules\[1\]: tier short gives 20m, and backend k/,
      },
      {
        what: 'roots from two places',
        text: `${production}  backends: {main: {type: cert-manager, namespace: n, issuer: {name: i}, rootsFrom: {file: x, clusterTrustBundle: y}}}\n`,
        says: /ca\.backends\.main\.rootsFrom: needs exactly one of file, configMap and clusterTrustBundle/,
      },
      {
        what: 'a signer name of Kubernetes itself',
        text: `${production}  backends: {main: {type: kubernetes-csr, signerName: kubernetes.io/kubelet-serving, rootsFrom: {file: x}}}\n`,
        says: /signerName: must be DOMAIN\/PATH, and none of kubernetes.io/,
      },
      {
        what: 'a bundle published as nothing',
        text: `${production}kubernetes: {publishBundle: {kubeconfig: k}}\n`,
        says: /kubernetes\.publishBundle: needs configMap, clusterTrustBundle, or both/,
      },
      {
        what: "a backend's name in capitals",
        text: `${production}  backends: {Main: {type: builtin}}\n`,
        says: /^signet\.yaml:15:14: ca\.backends\.Main: a name must be 1 to 63 of/,
      },
      {
        what: 'a key of another backend type',
        text: `${production}  backends: {main: {type: builtin, root: x}}\n`,
        says: /ca\.backends\.main\.root: there is no such setting/,
      },
      {
        what: 'a fallback that is nobody',
        text: `${production}  backends: {main: {type: files, root: r, key: k, fallback: sparee}, spare: {type: builtin}}\n  default: main\n`,
        says: /ca\.backends\.main\.fallback: there is no backend of that name \(did you mean "spare"\?\)$/,
      },
      {
        what: 'a fallback that is itself',
        text: `${production}  backends: {main: {type: files, root: r, key: k, fallback: main}}\n`,
        says: /ca\.backends\.main\.fallback: leads back to itself: main -> main \(leave out the last one/,
      },
      {
        what: 'a circle of fallbacks',
        text: `${production}  backends: {a: {type: files, root: r, key: k, fallback: b}, b: {type: files, root: r, key: k, fallback: c}, c: {type: files, root: r, key: k, fallback: b}}\n  default: a\n`,
        says: /ca\.backends\.b\.fallback: leads back to itself: b -> c -> b/,
      },
      {
        what: 'a fallback of one that is never away',
        text: `${production}  backends: {main: {type: builtin, fallback: other}, other: {type: files, root: r, key: k}}\n  default: main\n`,
        says: /ca\.backends\.main\.fallback: there is no such setting/,
      },
      {
        what: 'a wrong choice',
        text: `${production}log: {level: inof}\n`,
        says: /^signet\.yaml:15:14: log\.level: must be one of debug, info, warn, error \(did you mean "info"\?\)$/,
      },
      {
        what: 'a symmetric algorithm',
        text: production.replace('      allow', '      algorithms: [HS256]\n      allow'),
        says: /^signet\.yaml:11:20: identity\.issuers\[0\]\.algorithms\[0\]: must be one of RS256/,
      },
      {
        what: 'a key twice',
        text: `${production}data: other\n`,
        says: /^signet\.yaml:15:1: not valid YAML: .* \(a key may stand only once\)$/,
      },
      { what: 'a tab', text: 'listen:\n\tgrpc: x\n', says: /^signet\.yaml:2:1: not valid YAML: .* \(indent with spaces\)$/ },
      { what: 'half a file', text: `${production}policy: {rules: [`, says: /^signet\.yaml:15:18: not valid YAML: / },
      {
        what: 'aliases that explode',
        text: `a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [${'*a,'.repeat(20)}]\nc: &c [${'*b,'.repeat(20)}]\nd: [${'*c,'.repeat(20)}]\n`,
        says: /aliases expand to too much$/,
      },
      {
        what: 'both ways to the keys',
        text: production.replace('      allow', '      discovery: https://x\n      allow'),
        says: /^signet\.yaml:8:7: identity\.issuers\[0\]: has both jwks and discovery/,
      },
      {
        what: 'keys and reviews',
        text: production.replace('      allow', '      tokenReview: {}\n      allow'),
        says: /^signet\.yaml:8:7: identity\.issuers\[0\]: has both jwks and tokenReview/,
      },
      {
        what: 'no way to verify a token',
        text: production.replace('      jwks: jwks.json\n', ''),
        says: /^signet\.yaml:8:7: identity\.issuers\[0\]: needs jwks or discovery, where its public keys are, or tokenReview/,
      },
      {
        what: 'a review that is good for too long',
        text: production.replace('jwks: jwks.json', 'tokenReview: {cacheFor: 6m}'),
        says: /identity\.issuers\[0\]\.tokenReview\.cacheFor: 6m is too long/,
      },
      {
        what: 'what has no use with reviews',
        text: production.replace('jwks: jwks.json', 'tokenReview: {}\n      pods: {}'),
        says: /identity\.issuers\[0\]\.pods: has no use with tokenReview/,
      },
      {
        what: 'a context of nothing',
        text: production.replace('jwks: jwks.json', 'tokenReview: {context: east}'),
        says: /identity\.issuers\[0\]\.tokenReview\.context: has no use without a kubeconfig/,
      },
      {
        what: 'keys over plain HTTP',
        text: production.replace('jwks.json', 'http://x/jwks'),
        says: /^signet\.yaml:10:13: identity\.issuers\[0\]\.jwks: must be a file or an https:\/\/ URL/,
      },
      {
        what: 'no allow patterns',
        text: production.replace('      allow: ["**"]\n', ''),
        says: /^signet\.yaml:8:7: identity\.issuers\[0\]\.allow: is required/,
      },
      {
        what: 'a bad pattern',
        text: production.replace('"**"', 'ns/shop'),
        says: /^signet\.yaml:11:15: identity\.issuers\[0\]\.allow\[0\]: a pattern starts with "\/"/,
      },
      {
        what: 'a bad path template',
        text: production.replace('      allow', '      path: /sa/x{/sub}\n      allow'),
        says: /identity\.issuers\[0\]\.path: a segment is either plain or one/,
      },
      {
        what: 'two issuers of one id',
        text: production.replace(
          '      allow: ["**"]\n',
          '      allow: ["**"]\n    - {id: cluster, issuer: y, jwks: z, path: "/other/{/sub}", allow: ["*"]}\n',
        ),
        says: /^signet\.yaml:12:12: identity\.issuers\[1\]\.id: is the id of an issuer above$/,
      },
      {
        what: 'two issuers that could make the same name',
        text: production.replace(
          '      allow: ["**"]\n',
          '      allow: ["**"]\n    - {id: other, issuer: y, jwks: z, path: "/ns/{/team}/x/{/sub}", allow: ["*"]}\n',
        ),
        says: /^signet\.yaml:12:45: identity\.issuers\[1\]\.path: overlaps issuer "cluster": both can name identities under \/ns\//,
      },
      {
        what: "an issuer of the control plane's own names",
        text: production.replace('      allow', '      path: /signet/{/sub}\n      allow'),
        says: /identity\.issuers\[0\]\.path: names under \/signet\/ are/,
      },
      { what: 'no issuer', text: production.replace(/identity:[^]*(?=ca:)/, ''), says: /identity\.issuers: at least one is required/ },
      { what: 'no key encryption', text: production.replace(/ca:[^]*/, ''), says: /ca\.keyEncryption: is required \(for example keyFile/ },
      {
        what: 'a key beside what it encrypts',
        text: production.replace('/etc/signet/kek', 'data/kek'),
        says: /^signet\.yaml:14:14: ca\.keyEncryption\.keyFile: is in the data folder/,
      },
      { what: 'two ways to the key', text: `${production}    keyEnvironment: KEK\n`, says: /ca\.keyEncryption: has more than one of/ },
      {
        what: 'no names on a wildcard address',
        text: production.replace(/ {2}names.*\n/, ''),
        says: /listen\.names: is required when listen\.grpc is on every address/,
      },
      {
        what: 'a name that is none',
        text: production.replace('10.0.0.1', '"a..b"'),
        says: /^signet\.yaml:5:31: listen\.names\[1\]: is neither a DNS name nor an IP address$/,
      },
      {
        what: 'a tier that is not there',
        text: `${production}policy:\n  rules: [{match: /ns/*, tier: standrad}]\n`,
        says: /policy\.rules\[0\]\.tier: there is no tier of that name \(did you mean "standard"\?\)$/,
      },
      {
        what: 'a default backend that is not there',
        text: `${production}  default: vault\n`,
        says: /^signet\.yaml:15:12: ca\.default: there is no backend of that name \(one of builtin\)$/,
      },
      {
        what: 'a backend to pick that is not there',
        text: `${production}policy:\n  rules: [{match: /ns/*, certSigners: [builtn]}]\n`,
        says: /policy\.rules\[0\]\.certSigners\[0\]: there is no backend of that name \(did you mean "builtin"\?\)$/,
      },
      {
        what: 'a pattern of node accounts',
        text: `${production}policy:\n  trustedNodeAccounts: ["/ns/*/sa/ztunnel"]\n`,
        says: /policy\.trustedNodeAccounts\[0\]: must be the path of a SPIFFE ID/,
      },
      {
        what: 'a key folder with dots',
        text: `${production}policy:\n  defaults: {keyDirectories: [/etc/../root]}\n`,
        says: /^signet\.yaml:16:31: policy\.defaults\.keyDirectories\[0\]: a key directory has no "\." or "\.\." segment$/,
      },
      {
        what: 'a socket path too long',
        text: production.replace('listen:', `listen:\n  admin: /${'x'.repeat(120)}`),
        says: /^signet\.yaml:4:10: listen\.admin: a unix socket's path has at most 107 bytes, this one has 121/,
      },
      {
        what: 'one port for two',
        text: production.replace('grpc: 0.0.0.0:8443', 'grpc: 127.0.0.1:1\n  http: 127.0.0.1:1'),
        says: /^signet\.yaml:5:9: listen\.http: is the same as listen\.grpc/,
      },
      {
        what: 'a misspelt variable',
        text: production,
        more: { env: { SIGNET_LISTEN__GRCP: 'x' } },
        says: /^SIGNET_LISTEN__GRCP: there is no such setting \(did you mean SIGNET_LISTEN__GRPC\?\)$/,
      },
      {
        what: 'a variable with an underscore too many',
        text: production,
        more: { env: { SIGNET_TRUST_DOMAIN: 'x' } },
        says: /^SIGNET_TRUST_DOMAIN: there is no such setting \(did you mean SIGNET_TRUSTDOMAIN\?\)$/,
      },
      {
        what: 'a bad value in a variable',
        text: production,
        more: { env: { SIGNET_LIMITS__STREAMSPERIDENTITY: 'many' } },
        says: /^SIGNET_LIMITS__STREAMSPERIDENTITY: limits\.streamsPerIdentity: must be a number, but is a string$/,
      },
      {
        what: 'a bad value in a flag',
        text: production,
        more: { flags: { 'listen.grpc': 'here' } },
        says: /^--grpc: listen\.grpc: must be HOST:PORT/,
      },
      {
        what: 'a gap in a list from the environment',
        text: production,
        more: { env: { SIGNET_LISTEN__NAMES__5: 'x' } },
        says: /^signet\.yaml:5:\d+: listen\.names\[2\]: is required$/,
      },
    ];
  for (const { what, text, says, more } of cases) {
    it(what, async () => {
      const found = await problems(text, more);
      assert.ok(
        found.some((line) => says.test(line)),
        `none of these is like ${String(says)}:\n${found.join('\n')}`,
      );
    });
  }

  it('all at once, not one by one', async () => {
    const found = await problems(production.replace('0.0.0.0:8443', 'x').replace('jwks:', 'jwk:').replace('example.org\n', 'X\n'));
    assert.equal(found.length, 3);
  });

  it('never quotes a value: a secret in the wrong place stays secret', async () => {
    const secret = 'c2VjcmV0LWtleS1tYXRlcmlhbA==';
    for (const text of [
      production.replace('/etc/signet/kek', `[${secret}]`),
      `${production}log: {level: ${secret}}\n`,
      `${production}  default: ${secret}\n`,
      `${production}    key: ${secret}\n: ${secret}`,
    ]) {
      assert.ok(!(await problems(text)).join('\n').includes(secret));
    }
  });

  it('a file that is not there, or no file', async () => {
    await assert.rejects(loadConfig({ file: join(folder, 'none.yaml'), env: {} }), {
      code: 'CONFIG_INVALID',
      message: /there is no such file$/,
    });
    await assert.rejects(loadConfig({ file: await written(`# ${'x'.repeat(1024 * 1024)}`), env: {} }), {
      code: 'CONFIG_INVALID',
      message: /larger than 1 MiB/,
    });
  });

  it('no file at all outside --dev says what is needed', async () => {
    const { problems: found } = await checkConfig({ env: {} });
    assert.deepEqual(
      found.map(({ path }) => path),
      ['trustDomain', 'data'],
    );
  });
});

it('warns of an open metrics page and of --dev off loopback', async () => {
  const checked = await checkConfig({ env: {}, flags: { 'listen.grpc': '0.0.0.0:1', 'listen.http': '0.0.0.0:2' }, dev: true });
  assert.deepEqual(
    checked.warnings.map(({ path }) => path),
    ['listen.http', 'listen.grpc'],
  );
});
