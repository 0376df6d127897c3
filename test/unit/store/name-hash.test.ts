import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { nameHash } from '../../../src/store/sqlite/name-hash.ts';

describe('the hash of names', () => {
  it('is a whole number of 48 bits, and hardly ever the same for names that look alike', () => {
    const seen = new Set<number>();
    for (let i = 0; i < 100_000; i++) {
      const hash = nameHash(`spiffe://example.org/ns/shop/sa/web-${String(i)}`, 12345);
      assert.ok(Number.isSafeInteger(hash) && hash >= 0 && hash < 2 ** 48);
      seen.add(hash);
    }
    // Two among 100,000 would be expected once in 56,000 tries of a perfect hash.
    assert.ok(seen.size >= 99_999);
  });

  it('is another one under another seed', () => {
    assert.notEqual(nameHash('spiffe://example.org/a', 1), nameHash('spiffe://example.org/a', 2));
    assert.equal(nameHash('spiffe://example.org/a', 1), nameHash('spiffe://example.org/a', 1));
  });
});
