import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parse } from 'yaml';
import { renderEnvoyFiles } from '../../../src/cli/envoy-config/bootstrap.ts';
import { isAtLeast, type EnvoyAuth, type EnvoySettings } from '../../../src/cli/envoy-config/settings.ts';

const base: EnvoySettings = {
  node: { id: 'web-0', cluster: 'web' },
  trustDomain: 'example.org',
  auth: { kind: 'google-grpc-token', tokenFile: '/run/token' },
  api: 'sotw',
  server: { host: 'signet.example.org', port: 8443 },
  serverCaFile: '/etc/ca.pem',
  admin: { host: '127.0.0.1', port: 9901 },
  inbound: { listen: { host: '0.0.0.0', port: 10443 }, app: { host: '127.0.0.1', port: 8000 }, callers: [], alpn: ['h2', 'http/1.1'] },
  upstreams: [
    {
      name: 'next',
      listen: { host: '127.0.0.1', port: 10001 },
      address: { host: 'next.example.org', port: 10443 },
      peer: 'spiffe://example.org/ns/a/sa/next',
      protocol: 'h2',
      connectionPerRequest: false,
    },
  ],
  envoyVersion: undefined,
};

/** Every object of the document, however deep. */
function objects(node: unknown): Record<string, unknown>[] {
  if (Array.isArray(node)) return node.flatMap(objects);
  if (node === null || typeof node !== 'object') return [];
  return [node as Record<string, unknown>, ...Object.values(node).flatMap(objects)];
}

const token: EnvoyAuth = { kind: 'envoy-grpc-token', tokenFile: '/run/token', tokenSecretFile: '/etc/token-secret.yaml' };

describe('a rendered Envoy configuration', () => {
  it('has a static guard wherever trust comes by SDS, so that no secret can switch verification off', () => {
    const contexts = objects(parse(renderEnvoyFiles(base).bootstrap)).filter((node) => 'validation_context_sds_secret_config' in node);
    assert.equal(contexts.length, 2);
    const guards = contexts.map((node) => JSON.stringify(node.default_validation_context));
    assert.match(guards[0] ?? '', /"prefix":"spiffe:\/\/example\.org\/"/, 'with the slash: no other trust domain begins like it');
    assert.match(guards[1] ?? '', /"exact":"spiffe:\/\/example\.org\/ns\/a\/sa\/next"/);
    assert.doesNotMatch(guards[1] ?? '', /prefix/, 'matchers are alternatives');
  });

  it('lets in exactly the callers named', () => {
    const callers = ['spiffe://example.org/a', 'spiffe://example.org/b'];
    const inbound = base.inbound && { ...base.inbound, callers };
    const text = renderEnvoyFiles({ ...base, inbound }).bootstrap;
    for (const caller of callers) assert.ok(text.includes(`exact: "${caller}"`));
    assert.ok(!text.includes('prefix: "spiffe://'));
  });

  it('names one ConfigSource everywhere, also with no inbound listener', () => {
    for (const settings of [base, { ...base, inbound: undefined }]) {
      const sources = objects(parse(renderEnvoyFiles(settings).bootstrap)).flatMap((node) =>
        'sds_config' in node ? [JSON.stringify(node.sds_config)] : [],
      );
      assert.equal(new Set(sources).size, 1);
      assert.equal(sources.length, settings.inbound ? 4 : 2);
    }
  });

  it('checks the server by its own name, whichever host it is reached by', () => {
    const text = renderEnvoyFiles({ ...base, auth: token }).bootstrap;
    assert.ok(text.includes('exact: "spiffe://example.org/signet/server"'));
    assert.ok(text.includes('sni: "signet.example.org"'));
    assert.ok(renderEnvoyFiles(base).bootstrap.includes('target_uri: "signet.example.org:8443"'));
    assert.ok(renderEnvoyFiles({ ...base, server: { host: '::1', port: 1 } }).bootstrap.includes('target_uri: "[::1]:1"'));
  });

  it('leaves out what an older Envoy would refuse', () => {
    assert.ok(renderEnvoyFiles({ ...base, auth: token }).bootstrap.includes('header_value_prefix: "Bearer "'));
    assert.ok(renderEnvoyFiles({ ...base, auth: token, envoyVersion: '1.37.0' }).bootstrap.includes('header_value_prefix: "Bearer "'));
    assert.ok(!renderEnvoyFiles({ ...base, auth: token, envoyVersion: '1.36.4' }).bootstrap.includes('header_value_prefix: "'));
  });

  it('knows versions by number, not by text', () => {
    assert.ok(isAtLeast('1.100.0', 1, 37) && isAtLeast('v1.37', 1, 37) && isAtLeast('2.0', 1, 37) && isAtLeast(undefined, 1, 37));
    assert.ok(!isAtLeast('1.9.0', 1, 37));
  });

  it('keeps every value in its place, whatever is in it', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1 }), fc.string({ minLength: 1 }), (id, path) => {
        const { bootstrap, secret } = renderEnvoyFiles({
          ...base,
          node: { id, cluster: path },
          auth: { kind: 'envoy-grpc-token', tokenFile: `/run/${path}`, tokenSecretFile: path },
        });
        const document = parse(bootstrap) as {
          readonly node: object;
          readonly static_resources: { readonly listeners: readonly object[] };
        };
        assert.deepEqual(document.node, { id, cluster: path });
        assert.equal(document.static_resources.listeners.length, 2);
        assert.ok(objects(parse(secret?.text ?? '')).some((node) => node.filename === `/run/${path}`));
      }),
      { numRuns: 60 },
    );
  });
});
