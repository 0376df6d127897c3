import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';
import { protoRoot } from '../../src/base/proto-files.ts';
import { loadProtos } from '../support/published-protos.ts';

const file = 'signet/plugin/v1/plugin.proto';
const examples = fileURLToPath(new URL('../../examples/plugins/', import.meta.url));

/** As published (decision 21): lines are added here, and none is ever changed or taken away. */
const published = [
  'Handshake(HandshakeRequest) HandshakeResponse',
  'Health(HealthRequest) HealthResponse',
  'Sign(SignRequest) SignResponse',
  'SignIntermediate(SignIntermediateRequest) SignIntermediateResponse',
  'WatchTrust(WatchTrustRequest) stream Trust',
  'Capabilities.exact_life = 1: bool',
  'Capabilities.sign_intermediate = 2: bool',
  'HandshakeRequest.revision = 1: uint32',
  'HandshakeRequest.trust_domain = 2: string',
  'HandshakeRequest.signet_version = 3: string',
  'HandshakeResponse.revision = 1: uint32',
  'HandshakeResponse.plugin_name = 2: string',
  'HandshakeResponse.plugin_version = 3: string',
  'HandshakeResponse.capabilities = 4: Capabilities',
  'HealthResponse.can_sign = 1: bool',
  'HealthResponse.detail = 2: string',
  'SignIntermediateRequest.csr = 1: bytes',
  'SignIntermediateRequest.public_key = 2: bytes',
  'SignIntermediateRequest.common_name = 3: string',
  'SignIntermediateRequest.not_after = 4: int64',
  'SignIntermediateResponse.chain = 1: repeated bytes',
  'SignRequest.csr = 1: bytes',
  'SignRequest.spiffe_id = 2: string',
  'SignRequest.public_key = 3: bytes',
  'SignRequest.not_before = 4: int64',
  'SignRequest.not_after = 5: int64',
  'SignResponse.chain = 1: repeated bytes',
  'Trust.anchors = 1: repeated bytes',
  'Trust.issuers_end = 2: int64',
];

describe('signet.plugin.v1', () => {
  it('is what was published', () => {
    const namespace = loadProtos([protoRoot], [file]).lookup('signet.plugin.v1');
    assert.ok(namespace instanceof protobuf.Namespace);
    const lines = namespace.nestedArray.flatMap((one) => {
      if (one instanceof protobuf.Service)
        return one.methodsArray.map(
          ({ name, requestType, responseType, responseStream }) =>
            `${name}(${requestType}) ${responseStream ? 'stream ' : ''}${responseType}`,
        );
      assert.ok(one instanceof protobuf.Type);
      return one.fieldsArray.map(
        ({ name, id, type, repeated }) => `${one.name}.${name} = ${String(id)}: ${repeated ? 'repeated ' : ''}${type}`,
      );
    });
    assert.deepEqual(lines.toSorted(), published.toSorted());
  });

  it('is the same in both templates, which stand alone', async () => {
    const ours = await readFile(join(protoRoot, file), 'utf8');
    for (const template of ['typescript', 'go']) assert.equal(await readFile(join(examples, template, 'proto/plugin.proto'), 'utf8'), ours);
  });
});
