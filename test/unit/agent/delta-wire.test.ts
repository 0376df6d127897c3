import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { anchorsOf, openingRequest, readResponse, settlingRequest } from '../../../src/agent/delta-wire.ts';
import { SignetError } from '../../../src/base/errors.ts';
import { deltaRequest } from '../../../src/sds/request.ts';
import { deltaBody, withNonce } from '../../../src/sds/response.ts';
import { publishedAnchors, publishedIdentity } from '../../support/secret-material.ts';

describe("an agent's half of incremental SDS", () => {
  it('reads what the server writes', () => {
    const trust = publishedAnchors(1, 2);
    assert.ok(trust.type === 'validation');
    const bytes = withNonce(deltaBody('7', [{ name: 'ROOTCA', published: trust }], ['gone']), '12');
    const { nonce, resources, removed } = readResponse(bytes);
    assert.deepEqual({ nonce, removed }, { nonce: '12', removed: ['gone'] });
    const [resource] = resources;
    assert.ok(resource);
    assert.deepEqual([resource.name, resource.version], ['ROOTCA', trust.version]);
    assert.deepEqual(anchorsOf(resource.secret), trust.anchors.certificates);
  });

  it('writes what the server reads', () => {
    const opening = deltaRequest(
      openingRequest({ nodeId: 'signet-agent/web', subscribe: ['ROOTCA'], held: new Map([['ROOTCA', '3.ab']]) }),
    );
    assert.deepEqual([opening.node?.id, opening.subscribe, [...opening.held]], ['signet-agent/web', ['ROOTCA'], [['ROOTCA', '3.ab']]]);
    assert.equal(deltaRequest(settlingRequest('4')).error, undefined);
    assert.equal(deltaRequest(settlingRequest('4')).nonce, '4');
    assert.equal(deltaRequest(settlingRequest('4', 'because')).error?.message, 'because');
  });

  it('takes nothing but a validation context with a CA under a name of trust', async () => {
    const [resource] = readResponse(
      withNonce(deltaBody('1', [{ name: 'ROOTCA', published: await publishedIdentity('spiffe://td.test/web') }], []), '1'),
    ).resources;
    assert.ok(resource);
    assert.throws(() => anchorsOf(resource.secret), { code: 'INVALID_ARGUMENT' });
  });

  it('refuses whatever else comes, in our own words', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          for (const { secret } of readResponse(Buffer.from(bytes)).resources) anchorsOf(secret);
        } catch (error) {
          assert.ok(error instanceof SignetError && error.code === 'INVALID_ARGUMENT');
        }
      }),
    );
  });
});
