import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { deltaBody, sotwBody, versionOf, withNonce } from '../../../src/sds/response.ts';
import { encodeSecret, secretTypeUrl } from '../../../src/sds/secret.ts';
import { bytesField } from '../../../src/base/wire-writer.ts';
import { loadProtos, publishedFolders } from '../../support/published-protos.ts';
import { identity, publishedAnchors, publishedIdentity } from '../../support/secret-material.ts';

const root = loadProtos(publishedFolders, [
  'envoy/service/discovery/v3/discovery.proto',
  'envoy/extensions/transport_sockets/tls/v3/secret.proto',
]);
const decode = (message: string, bytes: Uint8Array): unknown => {
  const type = root.lookupType(message);
  return type.toObject(type.decode(bytes), { bytes: String, enums: String });
};
const secretType = 'envoy.extensions.transport_sockets.tls.v3.Secret';
const base64 = (text: string): string => Buffer.from(text).toString('base64');
const id = 'spiffe://td.test/ns/test/sa/web';

describe('a Secret, as the published protos read it', () => {
  it('is a certificate with its key inline, and nothing else', async () => {
    const made = await identity(id);
    assert.ok('inline' in made.key);
    assert.deepEqual(decode(secretType, encodeSecret('default', { type: 'identity', version: '1', identity: made })), {
      name: 'default',
      tls_certificate: {
        certificate_chain: { inline_bytes: base64(made.chain.pems.join('')) },
        private_key: { inline_bytes: base64(made.key.inline) },
      },
    });
  });

  it('is a certificate with the name of its key file', async () => {
    const made = await identity(id, '/keys');
    const secret = encodeSecret('default', { type: 'identity', version: '1', identity: made });
    assert.deepEqual(decode(secretType, secret), {
      name: 'default',
      tls_certificate: {
        certificate_chain: { inline_bytes: base64(made.chain.pems.join('')) },
        private_key: { filename: `/keys/${made.chain.spkiSha256}.key` },
      },
    });
    assert.ok(!secret.includes('PRIVATE KEY'));
  });

  it('is a validation context with its CAs, under whatever name', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1 }), fc.integer({ min: 1, max: 3 }), (name, count) => {
        const published = publishedAnchors(1, count);
        assert.ok(published.type === 'validation');
        const read = decode(secretType, encodeSecret(name, published));
        const validation_context = { trusted_ca: { inline_bytes: base64(published.anchors.pem) } };
        assert.deepEqual(read, { name, validation_context });
      }),
      { numRuns: 30 },
    );
  });

  it('can be of any size', () => {
    for (const size of [1, 127, 128, 16_383, 16_384, 300_000]) {
      const bytes = bytesField(2, Buffer.alloc(size, 7));
      assert.deepEqual(decode('google.protobuf.Any', bytes), { value: Buffer.alloc(size, 7).toString('base64') });
    }
  });
});

describe('responses', () => {
  it('says in both forms what was published, with the nonce that was appended', async () => {
    const secrets = [
      { name: 'default', published: await publishedIdentity(id) },
      { name: 'ROOTCA', published: publishedAnchors(3) },
    ];
    const resources = secrets
      .map(({ name, published }) => ({ name, version: published.version, value: encodeSecret(name, published).toString('base64') }))
      .toReversed();
    assert.deepEqual(decode('envoy.service.discovery.v3.DiscoveryResponse', withNonce(sotwBody('v', secrets), '41')), {
      version_info: 'v',
      resources: resources.map(({ value }) => ({ type_url: secretTypeUrl, value })),
      type_url: secretTypeUrl,
      nonce: '41',
    });
    assert.deepEqual(decode('envoy.service.discovery.v3.DeltaDiscoveryResponse', withNonce(deltaBody('v', secrets, ['gone', '']), '7')), {
      system_version_info: 'v',
      resources: resources.map(({ name, version, value }) => ({ name, version, resource: { type_url: secretTypeUrl, value } })),
      removed_resources: ['gone', ''],
      type_url: secretTypeUrl,
      nonce: '7',
    });
  });

  it('shares the bytes of trust among all streams, and keeps none of an identity', async () => {
    const trust = publishedAnchors(1);
    for (const name of ['ROOTCA', 'spiffe://td.test']) {
      assert.equal(sotwBody('1', [{ name, published: trust }]), sotwBody('1', [{ name, published: trust }]));
      assert.equal(deltaBody('1', [{ name, published: trust }], []), deltaBody('1', [{ name, published: trust }], []));
    }
    assert.notDeepEqual(sotwBody('1', [{ name: 'ROOTCA', published: trust }]), deltaBody('1', [{ name: 'ROOTCA', published: trust }], []));
    assert.notDeepEqual(
      deltaBody('1', [{ name: 'ROOTCA', published: trust }], []),
      deltaBody('2', [{ name: 'ROOTCA', published: trust }], []),
    );
    const own = [{ name: 'default', published: await publishedIdentity(id) }];
    assert.notEqual(sotwBody('1', own), sotwBody('1', own));
    assert.deepEqual(sotwBody('1', own), sotwBody('1', own));
  });

  it('gives one secret its own version, none a version too, and several one that moves with each and not with their order', async () => {
    const [a, b] = [publishedAnchors(1), await publishedIdentity(id)];
    const both = [
      { name: 'ROOTCA', published: a },
      { name: 'default', published: b },
    ];
    assert.equal(versionOf(both.slice(0, 1)), a.version);
    assert.notEqual(versionOf([]), '');
    assert.equal(versionOf(both), versionOf(both.toReversed()));
    const others = [
      [{ name: 'ROOTCA', published: publishedAnchors(2) }, ...both.slice(1)],
      [{ name: 'spiffe://td.test', published: a }, ...both.slice(1)],
      [...both, { name: 'spiffe://td.test', published: a }],
    ];
    assert.equal(new Set([both, ...others].map(versionOf)).size, 4);
  });
});
