import assert from 'node:assert/strict';
import { KeyObject } from 'node:crypto';
import { describe, it } from 'node:test';
import { calculateJwkThumbprint } from 'jose';
import { parseJwkSet } from '../../../src/identity/jwk-set.ts';
import { foreignKey } from '../../support/forge.ts';
import { ecKey, keySet, rsaKey } from '../../support/token-forge.ts';

const parse = (document: unknown) => parseJwkSet(JSON.stringify(document));

describe('JWK sets', () => {
  it('imports RSA and EC keys, each for the algorithms that fit it', () => {
    const set = parse(keySet(ecKey('p256'), ecKey('p384', 'P-384'), rsaKey('rsa')));
    const algorithms = (kid: string) => [...(set.keys.get(kid)?.schemes.keys() ?? [])].join(' ');
    assert.equal(algorithms('p256'), 'ES256');
    assert.equal(algorithms('p384'), 'ES384');
    assert.equal(algorithms('rsa'), 'RS256 RS384 RS512 PS256 PS384 PS512');
    assert.deepEqual(set.skipped, []);
  });

  it('takes the algorithm that an entry names for the only one', () => {
    const rsa = rsaKey('rsa');
    assert.deepEqual(
      [
        ...(parse({ keys: [{ ...rsa.jwk, alg: 'RS256' }] })
          .keys.get('rsa')
          ?.schemes.keys() ?? []),
      ],
      ['RS256'],
    );
    assert.equal(
      parse({
        keys: [
          { ...rsa.jwk, alg: 'ES256' },
          { ...ecKey().jwk, alg: 'none' },
        ],
      }).keys.size,
      0,
    );
  });

  it('names keys by RFC 7638, as jose does, and by that alone where an entry has no kid', async () => {
    for (const key of [ecKey('a'), rsaKey('b'), ecKey('c', 'P-384')]) {
      const expected = await calculateJwkThumbprint(key.publicKey);
      assert.equal(parse(keySet(key)).keys.get(key.kid)?.thumbprint, expected);
      assert.equal(parse({ keys: [{ ...key.jwk, kid: undefined }] }).keys.get(expected)?.keyId, expected);
    }
  });

  it('skips what it can not use and says so, without giving up the rest', () => {
    const good = ecKey('good');
    const weak = foreignKey('rsa-1024').export({ format: 'jwk' });
    const { x } = good.publicKey.export({ format: 'jwk' });
    const set = parse({
      keys: [
        null,
        'text',
        {},
        { kty: 'oct', kid: 'hmac', k: 'c2VjcmV0' },
        { ...foreignKey('ed25519').export({ format: 'jwk' }), kid: 'ed' },
        { kty: 'RSA', kid: 'weak', n: weak.n, e: weak.e },
        { kty: 'RSA', kid: 'tiny-exponent', n: rsaKey().jwk['n'], e: 'AQ' },
        { kty: 'EC', kid: 'off-curve', crv: 'P-256', x, y: x },
        { kty: 'EC', kid: 'curve', crv: 'secp256k1', x, y: x },
        { ...ecKey('enc').jwk, use: 'enc' },
        { ...ecKey('ops').jwk, key_ops: ['encrypt'] },
        good.jwk,
      ],
    });
    assert.deepEqual([...set.keys.keys()], ['good']);
    assert.equal(set.skipped.length, 11);
  });

  it('keeps nothing of a private key that was published by mistake', () => {
    const key = ecKey('leaked');
    const set = parse({ keys: [{ ...key.privateKey.export({ format: 'jwk' }), kid: 'leaked' }] });
    const scheme = set.keys.get('leaked')?.schemes.get('ES256');
    assert.ok(scheme?.key instanceof KeyObject);
    assert.equal(scheme.key.type, 'public');
  });

  it('uses neither of two different keys with one kid, but one key listed twice', () => {
    const [one, other, twin] = [ecKey('same'), ecKey('same'), rsaKey('twin')];
    assert.equal(parse(keySet(one, other)).keys.size, 0);
    assert.equal(parse(keySet(one, other, one)).keys.size, 0);
    const listed = parse({
      keys: [
        { ...twin.jwk, alg: 'RS256' },
        { ...twin.jwk, alg: 'PS256' },
      ],
    });
    assert.deepEqual([...(listed.keys.get('twin')?.schemes.keys() ?? [])], ['RS256', 'PS256']);
  });

  it('takes an empty set for what it says, and no document that is no set', () => {
    assert.equal(parse({ keys: [] }).keys.size, 0);
    for (const bad of ['', 'null', '[]', '{}', '{"keys":{}}', '{"keys":[', '<html>'])
      assert.throws(() => parseJwkSet(bad), { code: 'INVALID_ARGUMENT' }, bad);
    assert.throws(() => parse({ keys: Array.from({ length: 200 }, () => ({})) }), { code: 'INVALID_ARGUMENT' });
    assert.throws(() => parse({ keys: [], pad: 'x'.repeat(300_000) }), { code: 'TOO_LARGE' });
  });
});
