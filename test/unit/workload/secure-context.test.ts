import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { generateKeyPair } from '../../../src/x509/keys.ts';
import { serverContext } from '../../../src/workload/secure-context.ts';
import { publishedAnchors } from '../../support/secret-material.ts';

const own = 'spiffe://test.example';
const partner = 'spiffe://partner.example';

describe("a server's TLS context", () => {
  it('lets nobody in by the empty bundle of a federated trust domain, least of all by public web roots', () => {
    const published = publishedAnchors(1, 1);
    assert.ok(published.type === 'validation');
    const [root] = published.anchors.certificates;
    assert.ok(root);
    const context = {
      svids: [
        {
          spiffeId: `${own}/web`,
          certificates: [root],
          privateKey: generateKeyPair().privateKey,
          hint: '',
          expiresAt: 0,
          serialNumber: '01',
        },
      ],
      crls: [],
      bundles: new Map([
        [own, [root]],
        [partner, []],
      ]),
    } as const;
    assert.notEqual(serverContext(context, own).ca, '');
    assert.throws(() => serverContext(context, partner), { code: 'CONFIG_INVALID' });
    assert.throws(() => serverContext(context, 'spiffe://stranger.example'), { code: 'CONFIG_INVALID' });
  });
});
