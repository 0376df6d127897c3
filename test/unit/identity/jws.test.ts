import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { compactVerify } from 'jose';
import { failureReason } from '../../../src/identity/authentication-failure.ts';
import { parseJwkSet } from '../../../src/identity/jwk-set.ts';
import { jwsAlgorithms } from '../../../src/identity/jws-algorithm.ts';
import { longestToken, parseCompactJws, verifyJws } from '../../../src/identity/jws.ts';
import { ecKey, hmacToken, keySet, part, podClaims, rsaKey, signToken, unsignedToken } from '../../support/token-forge.ts';
import type { IssuerKey } from '../../support/token-forge.ts';

const ec = ecKey('ec');
const rsa = rsaKey('rsa');
const keys: Readonly<Record<string, IssuerKey>> = { ec, rsa, p384: ecKey('p384', 'P-384'), p521: ecKey('p521', 'P-521') };
const published = parseJwkSet(JSON.stringify(keySet(...Object.values(keys)))).keys;
const claims = podClaims(Date.now());

/** Whether we believe the token; throws only what a parser may throw. */
function believed(token: string): boolean {
  try {
    const jws = parseCompactJws(token);
    const scheme = published.get(jws.keyId)?.schemes.get(jws.algorithm);
    return scheme !== undefined && verifyJws(jws, scheme);
  } catch (error) {
    assert.equal(failureReason(error), 'malformed');
    return false;
  }
}

describe('JWS compact serialisation', () => {
  it('believes each algorithm that we take, signed by its kind of key, as jose does', async () => {
    for (const alg of jwsAlgorithms) {
      const key = { ES256: ec, ES384: keys['p384'], ES512: keys['p521'] }[alg as string] ?? rsa;
      const token = signToken(key, claims, { alg });
      assert.equal(believed(token), true, alg);
      await compactVerify(token, key.publicKey, { algorithms: [alg] });
    }
  });

  it('believes no token without a signature, and none that an HMAC of the public key signed', () => {
    const pem = rsa.publicKey.export({ type: 'spki', format: 'pem' });
    const der = rsa.publicKey.export({ type: 'spki', format: 'der' });
    for (const alg of ['none', 'NONE', 'None', 'nOnE', '']) assert.equal(believed(unsignedToken('rsa', claims, alg)), false);
    for (const secret of [pem, pem.toString().trim(), der, JSON.stringify(rsa.jwk)]) {
      assert.equal(believed(hmacToken(secret, 'rsa', claims)), false);
      assert.equal(believed(hmacToken(secret, 'rsa', claims, 'RS256')), false);
      assert.equal(believed(hmacToken(secret, 'ec', claims, 'HS256')), false);
    }
  });

  it("believes no algorithm that is not the key's", () => {
    const [header = '', payload = '', signature = ''] = signToken(rsa, claims, { alg: 'RS256' }).split('.');
    assert.equal(believed([header, payload, signature].join('.')), true);
    for (const alg of ['RS512', 'PS256', 'ES256', 'EdDSA', 'RS256 ', 'rs256']) {
      assert.equal(believed([part({ alg, kid: 'rsa' }), payload, signature].join('.')), false, alg);
    }
    assert.equal(believed(signToken(ec, claims, { header: { kid: 'p384' } })), false);
    assert.equal(believed(signToken(ec, claims, { header: { kid: 'rsa' } })), false);
  });

  it('refuses headers that bring a key along, or extend the format, though the signature is right', () => {
    const bad: readonly Record<string, unknown>[] = [
      { crit: ['exp'], exp: 1 },
      { crit: [] },
      { b64: false },
      { b64: true },
      { zip: 'DEF' },
      { jwk: ec.jwk },
      { jku: 'https://evil.example/keys' },
      { x5u: 'https://evil.example/cert' },
      { x5c: ['AAAA'] },
      { typ: 'logout+jwt' },
      { typ: 7 },
      { kid: undefined },
      { kid: '' },
      { kid: 7 },
      { kid: 'k'.repeat(300) },
    ];
    for (const header of bad)
      assert.throws(
        () => parseCompactJws(signToken(ec, claims, { header })),
        (error) => failureReason(error) === 'malformed',
        JSON.stringify(header),
      );
    for (const typ of ['JWT', 'jwt', 'application/jwt']) assert.equal(believed(signToken(ec, claims, { header: { typ } })), true);
  });

  it('refuses what is not exactly three parts of base64url', () => {
    const good = signToken(ec, claims);
    const [header = '', payload = '', signature = ''] = good.split('.');
    const bad = [
      '',
      '.',
      '..',
      '...',
      'a.b.c',
      `${header}.${payload}`,
      `${header}.${payload}.`,
      `${good}.`,
      `${good}.x`,
      `.${good}`,
      ` ${good}`,
      `${good} `,
      `${good}\n`,
      `${good}=`,
      `${header}=.${payload}.${signature}`,
      `${header}.${payload}.${Buffer.from(signature, 'base64url').toString('base64')}`,
      `Bearer ${good}`,
      good.replace('.', '\u2024'),
      `${part('[]')}.${payload}.${signature}`,
      `${part('null')}.${payload}.${signature}`,
      `${part('{"alg":"ES256"')}.${payload}.${signature}`,
      signToken(ec, '[1]'),
      signToken(ec, '7'),
      signToken(ec, '{"a":1,}'),
      `${header}.${Buffer.from([0x7b, 0xff, 0x7d]).toString('base64url')}.${signature}`,
      signToken(ec, { ...claims, pad: 'x'.repeat(longestToken) }),
    ];
    for (const token of bad)
      assert.throws(
        () => parseCompactJws(token),
        (error) => failureReason(error) === 'malformed',
        token.slice(0, 60),
      );
  });

  it('refuses one character more of the last group: no two texts are one token', () => {
    const token = signToken(rsa, claims);
    const last = token.slice(-1);
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const taken = Array.from(alphabet).filter((letter) => believed(token.slice(0, -1) + letter));
    assert.deepEqual(taken, [last]);
  });

  it('never shows any of the token in what it throws', () => {
    const secret = 'hunter2hunter2';
    for (const token of [signToken(ec, `{"a":${secret}`), `${part(`{"alg":${secret}`)}.e30.AAAA`, `${secret}.${secret}.${secret}`]) {
      assert.throws(
        () => parseCompactJws(token),
        (error) => error instanceof Error && !JSON.stringify([error.message, String(error.cause), error.stack]).includes(secret),
      );
    }
  });

  it('believes no mutation of a good token', () => {
    const tokens = [signToken(ec, claims), signToken(rsa, claims)];
    const alphabet = 'ABCxyz019-_.=+/ \n\u0000{}"é';
    fc.assert(
      fc.property(
        fc.constantFrom(...tokens),
        fc.array(fc.tuple(fc.nat(), fc.constantFrom('replace', 'insert', 'delete', 'swap', 'truncate'), fc.nat(alphabet.length - 1)), {
          minLength: 1,
          maxLength: 3,
        }),
        (token, changes) => {
          let mutated = token;
          for (const [where, kind, which] of changes) {
            const at = where % (mutated.length + 1);
            const letter = alphabet[which] ?? '';
            if (kind === 'replace') mutated = mutated.slice(0, at) + letter + mutated.slice(at + 1);
            if (kind === 'insert') mutated = mutated.slice(0, at) + letter + mutated.slice(at);
            if (kind === 'delete') mutated = mutated.slice(0, at) + mutated.slice(at + 1);
            if (kind === 'swap')
              mutated =
                mutated.slice(0, at) +
                mutated
                  .slice(at, at + 2)
                  .split('')
                  .reverse()
                  .join('') +
                mutated.slice(at + 2);
            if (kind === 'truncate') mutated = mutated.slice(0, at);
          }
          fc.pre(mutated !== token);
          assert.equal(believed(mutated), false);
        },
      ),
      { numRuns: 3000 },
    );
  });

  it('believes nothing that jose, as the oracle, does not', async () => {
    const header = fc.record({
      alg: fc.constantFrom('ES256', 'RS256', 'PS256', 'none', 'HS256', 'ES384'),
      kid: fc.constantFrom('ec', 'rsa', 'p384', 'other'),
    });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(ec, rsa), header, fc.boolean(), async (key, named, honest) => {
        const alg = key === rsa ? 'RS256' : 'ES256';
        const token = signToken(key, claims, { header: honest ? { alg, kid: key.kid } : named, alg });
        const ours = believed(token);
        const publicKey = keys[honest ? key.kid : named.kid]?.publicKey;
        const theirs = publicKey
          ? await compactVerify(token, publicKey, { algorithms: [...jwsAlgorithms] }).then(
              () => true,
              () => false,
            )
          : false;
        assert.equal(ours, theirs);
      }),
      { numRuns: 200 },
    );
  });
});
