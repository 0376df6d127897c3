import assert from 'node:assert/strict';
import { constants, generateKeyPairSync, hash, privateEncrypt, sign, verify } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { SignetError } from '../../../src/base/errors.ts';
import { createTurns } from '../../../src/ca/pkcs11/turns.ts';
import { DerReader, tag } from '../../../src/x509/der-reader.ts';
import { digestInfo, ecdsaFromRaw } from '../../../src/x509/signature.ts';

const refuse = (what: string): SignetError => new SignetError('INTERNAL', what);

describe('what a token returns, as X.509 wants it', () => {
  it('is the same r and s, each a minimal positive INTEGER', () => {
    const half = fc.oneof(
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      // Leading zeros and sign bits are where encoders go wrong.
      fc.tuple(fc.integer({ min: 0, max: 31 }), fc.uint8Array({ minLength: 32, maxLength: 32 })).map(([n, bytes]) => bytes.fill(0, 0, n)),
    );
    fc.assert(
      fc.property(half, half, (r, s) => {
        const outer = new DerReader(ecdsaFromRaw(Buffer.concat([r, s])), refuse);
        const pair = outer.enter(tag.sequence);
        outer.finish();
        const values = [pair.integer(), pair.integer()].map((one) => BigInt(`0x${one.toString('hex')}`));
        pair.finish();
        assert.deepEqual(
          values,
          [r, s].map((one) => BigInt(`0x${Buffer.from(one).toString('hex')}`)),
        );
      }),
    );
  });

  for (const [namedCurve, digest] of [
    ['P-256', 'sha256'],
    ['P-384', 'sha384'],
  ] as const) {
    it(`verifies on ${namedCurve}`, () => {
      const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve });
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 200 }), (data) =>
          verify(digest, data, publicKey, ecdsaFromRaw(sign(digest, data, { key: privateKey, dsaEncoding: 'ieee-p1363' }))),
        ),
      );
    });
  }

  it('is RSA over the DigestInfo that everybody else hashes to', () => {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const data = Buffer.from('data');
    const padded = { key: privateKey, padding: constants.RSA_PKCS1_PADDING };
    const signature = privateEncrypt(padded, digestInfo(hash('sha256', data, 'buffer')));
    assert.ok(verify('sha256', data, publicKey, signature));
    assert.deepEqual(signature, sign('sha256', data, privateKey));
    // RFC 8017 §9.2, note 1: the prefix for SHA-256.
    assert.equal(digestInfo(Buffer.alloc(32)).toString('hex'), `3031300d060960864801650304020105000420${'00'.repeat(32)}`);
  });
});

describe('turns', () => {
  it('are never more than the limit at once, are taken in order, and lose nothing to those who give up', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 4 }), fc.array(fc.boolean(), { minLength: 1, maxLength: 40 }), async (limit, givesUp) => {
        const turns = createTurns(limit);
        let [inside, most] = [0, 0];
        const served: number[] = [];
        const callers = givesUp.map(async (leaves, i) => {
          const stop = new AbortController();
          if (leaves) {
            setImmediate(() => {
              stop.abort();
            });
          }
          const end = await turns.take(stop.signal).catch((error: unknown) => {
            assert.ok(leaves && error instanceof SignetError && error.code === 'CANCELLED');
            return undefined;
          });
          if (!end) return;
          most = Math.max(most, ++inside);
          served.push(i);
          await new Promise((resolve) => setImmediate(resolve));
          inside--;
          end();
        });
        await Promise.all(callers);
        assert.ok(most <= limit);
        assert.deepEqual(
          served,
          [...served].sort((a, b) => a - b),
        );
        for (const [i, leaves] of givesUp.entries()) assert.ok(leaves || served.includes(i));
        // All turns are back.
        await Promise.all(Array.from({ length: limit }, () => turns.take(new AbortController().signal)));
      }),
      { numRuns: 60 },
    );
  });
});
