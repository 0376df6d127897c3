import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SignetError } from '../../../src/base/errors.ts';
import {
  isPathSegment,
  isSpiffeId,
  isTrustDomain,
  parseSpiffeId,
  parseTrustDomain,
  pathOf,
  spiffeId,
  trustDomainOf,
} from '../../../src/spiffe/id.ts';

const invalid = (error: unknown): boolean => error instanceof SignetError && error.code === 'INVALID_ARGUMENT';

test('a SPIFFE ID is a trust domain and a path of clean segments', () => {
  for (const id of ['spiffe://cluster.local/ns/shop/sa/web', 'spiffe://a/b', 'spiffe://my_td-1.example/A.b-c_d/...']) {
    assert.ok(isSpiffeId(id), id);
    assert.equal(parseSpiffeId(id), id);
  }
});

test('everything else is refused, never cleaned, and not repeated in the message', () => {
  const bad = [
    '',
    'spiffe://',
    'spiffe://td',
    'spiffe://td/',
    'spiffe://td//a',
    'spiffe://td/a/',
    'spiffe://td/./a',
    'spiffe://td/../a',
    'spiffe://TD/a',
    'SPIFFE://td/a',
    'spiffe:///a',
    'https://td/a',
    'spiffe://td:8443/a',
    'spiffe://user@td/a',
    'spiffe://td/a?b',
    'spiffe://td/a#b',
    'spiffe://td/%61',
    'spiffe://td/a b',
    'spiffe://td/a\n',
    'spiffe://td/\0',
    'spiffe://td/é',
    ' spiffe://td/a',
    `spiffe://${'t'.repeat(256)}/a`,
    `spiffe://td/${'a'.repeat(2048)}`,
  ];
  for (const id of bad) {
    assert.ok(!isSpiffeId(id), JSON.stringify(id));
    assert.throws(
      () => parseSpiffeId(id),
      (error) => invalid(error) && (id.length < 12 || !String(error).includes(id)),
    );
  }
});

test('2048 bytes are accepted, one more is not', () => {
  const id = `spiffe://td/${'a'.repeat(2048 - 12)}`;
  assert.equal(id.length, 2048);
  assert.ok(isSpiffeId(id));
  assert.ok(!isSpiffeId(`${id}a`));
});

test('an ID taken apart and put together again is the same, and no two paths fold into one', () => {
  const segment = fc.string({
    minLength: 1,
    maxLength: 12,
    unit: fc.constantFrom('a', 'Z', '0', '9', '.', '_', '-', '/', '%', '\0', ' ', 'é'),
  });
  fc.assert(
    fc.property(fc.array(segment, { minLength: 1, maxLength: 5 }), (segments) => {
      const good = segments.every(isPathSegment);
      if (!good) {
        assert.throws(() => spiffeId(parseTrustDomain('td'), segments), invalid);
        return;
      }
      const id = spiffeId(parseTrustDomain('td'), segments);
      assert.equal(trustDomainOf(id), 'td');
      assert.deepEqual(pathOf(id).slice(1).split('/'), segments);
    }),
    { numRuns: 500 },
  );
});

test('a path makes an ID if each of its segments is one', () => {
  const path = fc.string({ maxLength: 10, unit: fc.constantFrom('a', 'Z', '0', '.', '-', '/', '%', '\n', 'é') });
  fc.assert(
    fc.property(path, (text) => {
      assert.equal(isSpiffeId(`spiffe://td/${text}`), text.split('/').every(isPathSegment));
    }),
    { numRuns: 2000 },
  );
});

test('trust domains are lower-case names of at most 255 characters', () => {
  for (const name of ['a', 'cluster.local', 'x'.repeat(255), '1_2-3.4']) assert.ok(isTrustDomain(name), name);
  for (const name of ['', 'A', 'a b', 'a:1', 'a/b', 'x'.repeat(256), 'a\n', 'ä']) {
    assert.ok(!isTrustDomain(name), JSON.stringify(name));
    assert.throws(() => parseTrustDomain(name), invalid);
  }
});
