import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { compilePattern, patternProblem } from '../../../src/spiffe/pattern.ts';

describe('patterns over SPIFFE paths', () => {
  const table: readonly (readonly [pattern: string, yes: readonly string[], no: readonly string[]])[] = [
    ['/ns/shop/sa/web', ['/ns/shop/sa/web'], ['/ns/shop/sa/web2', '/ns/shop/sa', '/NS/shop/sa/web', '']],
    ['/ns/shop/sa/*', ['/ns/shop/sa/web', '/ns/shop/sa/'], ['/ns/shop/sa', '/ns/shop/sa/web/x', '/ns/shop2/sa/web']],
    ['/ns/*/sa/web-*', ['/ns/a/sa/web-', '/ns/a/sa/web-1'], ['/ns/a/b/sa/web-1', '/ns/a/sa/web']],
    ['/ns/shop/**', ['/ns/shop/sa/web', '/ns/shop/x'], ['/ns/shop', '/ns/shopping/sa/web']],
    ['/ns/shop**', ['/ns/shop', '/ns/shopping/sa/web'], ['/ns/sho']],
    ['**/sa/admin', ['/ns/a/sa/admin', '/sa/admin'], ['/ns/a/sa/admins', '/xsa/admin/']],
    ['/a/**/z/*', ['/a/b/z/c', '/a/z/z/c', '/a/b/c/z/'], ['/a/z/c', '/a/b/z/c/d']],
    ['*', ['/ns/shop/sa/web', '/x'], []],
    ['**', ['/ns/shop/sa/web', '/x'], []],
  ];
  for (const [pattern, yes, no] of table) {
    it(pattern, () => {
      const matches = compilePattern(pattern);
      for (const path of yes) assert.equal(matches(path), true, path);
      for (const path of no) assert.equal(matches(path), false, path);
    });
  }

  it('says what is wrong with one that can not have been meant', () => {
    for (const bad of [
      '',
      'ns/shop',
      '*/shop',
      '/ns/shop/',
      '/ns//shop',
      '/ns/***',
      '/ns/{x}',
      '/ns/shop sa',
      '/ns/[ab]',
      `/${'a'.repeat(600)}`,
    ]) {
      assert.notEqual(patternProblem(bad), undefined, bad);
      assert.throws(() => compilePattern(bad), { code: 'INVALID_ARGUMENT' }, bad);
    }
  });

  it('agrees with a regular expression on whatever patterns and paths', () => {
    const piece = fc.constantFrom('a', 'b', '.', '/', '*', '**');
    const path = fc.array(fc.constantFrom('a', 'b', '.', '/'), { maxLength: 14 }).map((parts) => parts.join(''));
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 9 }), path, (pieces, text) => {
        const pattern = `/${pieces.join('')}`;
        fc.pre(patternProblem(pattern) === undefined);
        const source = pattern.replaceAll('.', '\\.').replaceAll(/\*\*|\*/g, (star) => (star === '**' ? '.*' : '[^/]*'));
        assert.equal(compilePattern(pattern)(text), new RegExp(`^${source}$`).test(text), `${pattern} on ${text}`);
      }),
      { numRuns: 5000 },
    );
  });

  it('stays quick on the pattern and path that make backtracking engines explode', () => {
    // With a regular expression this would outlast the test's time limit by hours.
    assert.equal(compilePattern(`/${'a**'.repeat(60)}b`)(`/${'a'.repeat(2000)}`), false);
    assert.equal(compilePattern(`/${'a*'.repeat(60)}b`)(`/${'a'.repeat(2000)}`), false);
  });
});
