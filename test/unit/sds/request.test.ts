import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { deltaRequest, sotwRequest } from '../../../src/sds/request.ts';
import { loadProtos, publishedFolders } from '../../support/published-protos.ts';

const root = loadProtos(publishedFolders, ['envoy/service/discovery/v3/discovery.proto']);
const encode = (message: string, fields: object): Buffer => {
  const type = root.lookupType(`envoy.service.discovery.v3.${message}`);
  return Buffer.from(type.encode(type.fromObject(fields)).finish());
};
const text = fc.string({ unit: 'binary', maxLength: 30 });
const refusedFor = (read: () => unknown): void => {
  assert.throws(read, { name: 'SignetError', code: 'INVALID_ARGUMENT' });
};

describe('requests, as any protobuf library writes them', () => {
  it('reads every field of a SotW request', () => {
    const request = fc.record({ version: text, names: fc.array(text), nonce: text, code: fc.integer({ min: 1, max: 16 }), message: text });
    fc.assert(
      fc.property(request, ({ version, names, nonce, code, message }) => {
        const bytes = encode('DiscoveryRequest', {
          version_info: version,
          resource_names: names,
          response_nonce: nonce,
          error_detail: { code, message, details: [{ type_url: 'x' }] },
          node: { id: 'n', metadata: { fields: { a: { number_value: 1.5 } } } },
        });
        const read = sotwRequest(bytes);
        assert.deepEqual(read, { version, names, nonce, error: { code, message }, node: { id: 'n', envoyVersion: '' } });
      }),
    );
  });

  it('reads every field of a Delta request', () => {
    const request = fc.record({
      subscribe: fc.array(text),
      unsubscribe: fc.array(text),
      held: fc.dictionary(text, text, { noNullPrototype: true }),
      nonce: text,
    });
    fc.assert(
      fc.property(request, ({ subscribe, unsubscribe, held, nonce }) => {
        const bytes = encode('DeltaDiscoveryRequest', {
          resource_names_subscribe: subscribe,
          resource_names_unsubscribe: unsubscribe,
          initial_resource_versions: held,
          response_nonce: nonce,
        });
        const read = deltaRequest(bytes);
        assert.deepEqual(
          { ...read, held: Object.fromEntries(read.held) },
          { subscribe, unsubscribe, held, nonce, node: undefined, error: undefined },
        );
      }),
    );
  });

  it("knows an Envoy's version in either form, and keeps of a node what can be shown", () => {
    const built = { user_agent_build_version: { version: { major_number: 1, minor_number: 40, patch: 300 }, metadata: {} } };
    const nodeOf = (node: object) => sotwRequest(encode('DiscoveryRequest', { node })).node;
    assert.deepEqual(nodeOf({ id: 'a', ...built }), { id: 'a', envoyVersion: '1.40.300' });
    assert.deepEqual(nodeOf({ user_agent_version: '1.36.4' }), { id: '', envoyVersion: '1.36.4' });
    const shown = nodeOf({ id: `\u0000\u001b[31m\r\n\u202e${'x'.repeat(5_000)}` });
    assert.match(shown?.id ?? '', /^\?\?\[31m\?\?\?\?\?x+$/);
    assert.equal(shown?.id.length, 128);
  });

  it('serves one type; an empty type URL is implicit', () => {
    const url = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret';
    for (const type_url of ['', url]) assert.deepEqual(sotwRequest(encode('DiscoveryRequest', { type_url })).names, []);
    for (const type_url of [url.slice(1), `${url}x`, 'Secret']) {
      refusedFor(() => sotwRequest(encode('DiscoveryRequest', { type_url })));
      refusedFor(() => deltaRequest(encode('DeltaDiscoveryRequest', { type_url })));
    }
  });
});

describe('requests that are none', () => {
  it('is never anything but read or refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        for (const read of [sotwRequest, deltaRequest]) {
          try {
            read(Buffer.from(bytes));
          } catch (error) {
            assert.equal(error instanceof Error && 'code' in error && error.code, 'INVALID_ARGUMENT');
          }
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('refuses what is cut off anywhere but between two fields', () => {
    const bytes = encode('DiscoveryRequest', { resource_names: ['default', 'ROOTCA'], response_nonce: '12' });
    const whole = new Set([0, 9, 17, 21]);
    for (let length = 0; length <= bytes.length; length++) {
      if (whole.has(length)) sotwRequest(bytes.subarray(0, length));
      else refusedFor(() => sotwRequest(bytes.subarray(0, length)));
    }
  });

  it('refuses names that are not UTF-8, but not a refusal for what it quotes', () => {
    refusedFor(() => sotwRequest(Buffer.from('1a02c328', 'hex')));
    refusedFor(() => deltaRequest(Buffer.from('1a02c328', 'hex')));
    assert.equal(sotwRequest(Buffer.from('32041202c328', 'hex')).error?.message, '\ufffd(');
  });
});
