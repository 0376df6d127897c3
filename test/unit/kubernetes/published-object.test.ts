import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { configMapTarget, fieldManager, standingOf, storedObject } from '../../../src/kubernetes/published-object.ts';

const target = configMapTarget('signet-bundle', 'ca.crt');
const wanted = { version: '7.abc', pem: 'PEM' };
const self = fieldManager('example.org');

function stored(
  over: { readonly pem?: string; readonly version?: string; readonly managers?: readonly string[]; readonly trustDomain?: string } = {},
) {
  const annotations = {
    'signet.dev/bundle-version': over.version ?? '7.abc',
    'signet.dev/trust-domain': over.trustDomain ?? 'example.org',
  };
  const managedFields = (over.managers ?? [self]).map((manager) => ({ manager }));
  return storedObject.parse({
    metadata: { name: 'signet-bundle', namespace: 'shop', resourceVersion: '1', uid: 'u', annotations, managedFields },
    data: { 'ca.crt': over.pem ?? 'PEM', other: 'x' },
  });
}

const standing = (object: ReturnType<typeof stored> | undefined, wasOurs = false) =>
  standingOf(target, object, wanted, 'example.org', wasOurs);

describe('a copy of the trust bundle', () => {
  it('is there as wanted, or not there, or differs', () => {
    assert.deepEqual(standing(undefined), { kind: 'absent' });
    assert.deepEqual(standing(stored()), { kind: 'as-wanted' });
    assert.deepEqual(standing(stored({ pem: 'evil' })), { kind: 'differs', ahead: false });
    assert.deepEqual(standing(stored({ version: '6.abc' })), { kind: 'differs', ahead: false });
    assert.deepEqual(standing(stored({ trustDomain: 'other.org' })), { kind: 'differs', ahead: false });
  });

  it('that is ahead of us is told apart, so that the store is asked first', () => {
    assert.deepEqual(standing(stored({ version: '8.def', pem: 'newer' })), { kind: 'differs', ahead: true });
    assert.deepEqual(standing(stored({ version: 'nonsense', pem: 'newer' })), { kind: 'differs', ahead: false });
  });

  it("is ours by our field manager or because it was, and else somebody's", () => {
    assert.equal(standing(stored({ managers: ['kubectl-edit', self], pem: 'evil' })).kind, 'differs');
    assert.equal(standing(stored({ managers: ['kubectl-create'] })).kind, 'foreign');
    assert.equal(standing(stored({ managers: ['kubectl-create'], pem: 'evil' }), true).kind, 'differs');
  });

  it('of another trust domain is never fought over', () => {
    const other = fieldManager('other.org');
    assert.equal(standing(stored({ managers: [other], pem: 'theirs' }), true).kind, 'foreign');
    assert.equal(standing(stored({ managers: [other, self], pem: 'theirs' })).kind, 'differs');
  });

  it('has a field manager that the API server takes, however long the trust domain is', () => {
    assert.ok(fieldManager('a'.repeat(255)).length <= 128);
  });
});
