import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import fc from 'fast-check';
import { SignetError } from '../../../src/base/errors.ts';
import { bytesField, entryField, textField } from '../../../src/base/wire-writer.ts';
import { readX509Context } from '../../../src/workload/x509-context.ts';
import { encodeX509Svids } from '../../../src/workload-api/messages.ts';
import type { X509State } from '../../../src/workload-api/workload-source.ts';
import { testTrustDomain } from '../../support/workload-world.ts';
import type { TestTrustDomain } from '../../support/workload-world.ts';

let ours: TestTrustDomain;
let partner: TestTrustDomain;
let state: X509State;
before(async () => {
  ours = await testTrustDomain('test.example');
  partner = await testTrustDomain('partner.example');
  const bundles = new Map([ours, partner].map(({ name, authority }) => [name, [authority.root]]));
  state = { svids: [await ours.svid('/web', { hint: 'h' }), await ours.svid('/db')], bundles, crls: [Buffer.from('3000', 'hex')] };
});

const clientsError = (error: unknown): boolean =>
  error instanceof SignetError && ['INVALID_ARGUMENT', 'TOO_LARGE', 'INVALID_CSR'].includes(error.code);

describe('what the Workload API sent', () => {
  it('is read as it was meant', () => {
    const context = readX509Context(encodeX509Svids(state), Date.now());
    assert.deepEqual(
      context.svids.map(({ spiffeId, hint, certificates }) => ({ spiffeId, hint, certificates })),
      state.svids.map(({ spiffeId, hint, chain }) => ({ spiffeId, hint, certificates: chain })),
    );
    assert.deepEqual(new Map(context.bundles), new Map(state.bundles));
    assert.deepEqual(context.crls, state.crls);
  });

  it('is used or refused, whatever bytes it is, and never half', () => {
    const good = encodeX509Svids(state);
    const now = Date.now();
    const judge = (bytes: Buffer): void => {
      try {
        const { svids, bundles } = readX509Context(bytes, now);
        // What was taken is whole, so the mutation was where it doesn't matter to an identity.
        for (const { spiffeId } of svids) assert.ok(bundles.has(spiffeId.slice(0, spiffeId.indexOf('/', 9))));
      } catch (error) {
        if (!clientsError(error)) throw error;
      }
    };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        judge(Buffer.from(bytes));
      }),
    );
    const mutation = fc.record({ at: fc.nat(good.length - 1), byte: fc.nat(255), cut: fc.boolean() });
    fc.assert(
      fc.property(mutation, ({ at, byte, cut }) => {
        const bytes = Buffer.from(cut ? good.subarray(0, at) : good);
        if (!cut) bytes[at] = byte;
        judge(bytes);
      }),
      { numRuns: 500 },
    );
  });

  it('is refused without an identity, a certificate, a key or a bundle', () => {
    const [{ spiffeId, chain, keyPkcs8 }] = state.svids;
    const root = ours.authority.root;
    const fields = [textField(1, spiffeId), bytesField(2, ...chain), bytesField(3, keyPkcs8), bytesField(4, root)];
    readX509Context(bytesField(1, ...fields), Date.now());
    assert.throws(() => readX509Context(entryField(3, ours.name, root), Date.now()), clientsError);
    for (let left = 0; left < fields.length; left++)
      assert.throws(() => readX509Context(bytesField(1, ...fields.filter((_, i) => i !== left)), Date.now()), clientsError, String(left));
  });
});
