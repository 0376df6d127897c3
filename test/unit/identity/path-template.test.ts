import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { failureReason } from '../../../src/identity/authentication-failure.ts';
import { compileInstance, instanceFromHint } from '../../../src/identity/instance-name.ts';
import { compilePointer } from '../../../src/identity/json-pointer.ts';
import { compileTemplate, templateProblem } from '../../../src/identity/path-template.ts';
import { isPathSegment } from '../../../src/spiffe/id.ts';

const refusedClaim = (error: unknown) => failureReason(error) === 'claim';

describe('path templates', () => {
  it('fill segments with claims', () => {
    const kubernetes = compileTemplate('/ns/{/kubernetes.io/namespace}/sa/{/kubernetes.io/serviceaccount/name}');
    assert.equal(kubernetes.fill({ 'kubernetes.io': { namespace: 'shop', serviceaccount: { name: 'web' } } }), '/ns/shop/sa/web');
    assert.deepEqual(kubernetes.prefix, ['ns']);
    const git = compileTemplate('/ci/{*/repository}/ref/{/ref_name}');
    assert.equal(git.fill({ repository: 'acme/shop', ref_name: 'main' }), '/ci/acme/shop/ref/main');
    assert.deepEqual(compileTemplate('/vm/one').fill({}), '/vm/one');
  });

  it('refuse a claim that does not fit, and never clean it', () => {
    const template = compileTemplate('/ns/{/n}');
    for (const n of [
      'a/b',
      '',
      '.',
      '..',
      'a b',
      'a%2fb',
      'ä',
      'a\n',
      '/a',
      'a/',
      'a\u0000',
      '{}',
      'x'.repeat(3000),
      7,
      null,
      true,
      {},
      ['a'],
      undefined,
    ]) {
      assert.throws(() => template.fill({ n }), refusedClaim, JSON.stringify(n));
    }
    assert.throws(() => template.fill({}), refusedClaim);
  });

  it('refuse empty, dot and odd segments where several are declared', () => {
    const template = compileTemplate('/ci/{*/r}');
    for (const r of ['', '/', '/a', 'a/', 'a//b', 'a/../b', './a', 'a/b c', 'a\\b', 'a/\u2215b', 'x/'.repeat(600)])
      assert.throws(() => template.fill({ r }), refusedClaim, r);
  });

  it('are refused when they could not have been meant', () => {
    const bad = [
      '',
      'ns/{/a}',
      '/',
      '/ns/',
      '//ns',
      '/ns/{a}',
      '/ns/{}',
      '/ns/{/}',
      '/ns/x{/a}',
      '/ns/{/a}x',
      '/ns/{/a',
      '/ns/a}',
      '/n s/{/a}',
      '/../{/a}',
      '/{*/a}/{*/b}',
      '/{/a~2}',
    ];
    for (const text of bad) {
      assert.notEqual(templateProblem(text), undefined, text);
      assert.throws(() => compileTemplate(text), { code: 'INVALID_ARGUMENT' }, text);
    }
  });

  it('never give one path to two sets of claims', () => {
    const templates = ['/t/{/a}/{/b}', '/t/{*/a}/x/{/b}', '/{/a}/x/{*/b}'].map(compileTemplate);
    const value = fc.array(fc.constantFrom('a', 'x', '/', '.', '-'), { maxLength: 6 }).map((parts) => parts.join(''));
    const claims = fc.record({ a: value, b: value }, { noNullPrototype: true });
    const fill = (template: (typeof templates)[number], from: { a: string; b: string }): string | undefined => {
      try {
        return template.fill(from);
      } catch (error) {
        assert.ok(refusedClaim(error));
        return undefined;
      }
    };
    fc.assert(
      fc.property(fc.constantFrom(...templates), claims, claims, (template, one, other) => {
        const path = fill(template, one);
        fc.pre(path !== undefined);
        assert.ok(path.startsWith('/') && path.slice(1).split('/').every(isPathSegment));
        if (path === fill(template, other)) assert.deepEqual(one, other);
      }),
      { numRuns: 3000 },
    );
  });
});

describe('JSON pointers', () => {
  it('read what RFC 6901 says, and nothing that objects inherit', () => {
    const claims = { 'a/b': 1, 'm~n': 2, '~1': 3, deep: { er: 4 }, list: ['x'] };
    for (const [pointer, expected] of [
      ['/a~1b', 1],
      ['/m~0n', 2],
      ['/~01', 3],
      ['/deep/er', 4],
      ['/deep/none', undefined],
      ['/list/0', undefined],
      ['/toString', undefined],
      ['/__proto__', undefined],
      ['/constructor/name', undefined],
      ['/deep/er/toFixed', undefined],
    ] as const)
      assert.equal(compilePointer(pointer)(claims), expected, pointer);
  });
});

describe('instances', () => {
  it('of an issuer and of a client never share a name', () => {
    const pod = compileInstance('/kubernetes.io/pod/uid');
    const claim = compileInstance('/machine');
    assert.equal(pod({ 'kubernetes.io': { pod: { uid: '1-2' } } }), 'pod:1-2');
    assert.equal(claim({ machine: '1-2' }), 'claim:1-2');
    assert.equal(instanceFromHint('1-2'), 'hint:1-2');
    assert.equal(claim({}), undefined);
    assert.equal(compileInstance(undefined)({ machine: 'x' }), undefined);
  });

  it('are refused when odd', () => {
    const claim = compileInstance('/machine');
    for (const machine of ['', 'a b', 'a/b', 'pod:x', 'a\n', 'x'.repeat(65), 7, null, {}]) {
      assert.throws(() => claim({ machine }), refusedClaim, JSON.stringify(machine));
      if (typeof machine === 'string') assert.throws(() => instanceFromHint(machine), { code: 'INVALID_ARGUMENT' });
    }
  });
});
