import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { SignetError } from '../../../src/base/errors.ts';
import { keySealFromKey, keySealFromPassphrase, newKeyEncryptionKey } from '../../../src/ca/key-seal.ts';
import { openKeySeal } from '../../../src/ca/open-key-seal.ts';
import { memoryCaState } from '../../support/memory-ca-state.ts';

const code = (expected: string) => (error: unknown) => error instanceof SignetError && error.code === expected;
/** Far below what the program uses: these tests are about what comes out, not about how long it takes. */
const cheap = { cost: 2 ** 4, blockSize: 1, parallelization: 1 };

describe('a key seal', () => {
  const seal = keySealFromKey(newKeyEncryptionKey());

  it('gives back what it sealed, for the same purpose and key only', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.string(), fc.string(), fc.uint8Array(), (purpose, id, purpose2, id2, bytes) => {
        const plaintext = Buffer.from(bytes);
        const sealed = seal.seal(purpose, id, plaintext);
        assert.deepEqual(seal.open(purpose, id, sealed), plaintext);
        if (purpose !== purpose2 || id !== id2) assert.throws(() => seal.open(purpose2, id2, sealed), code('KEY_UNSEALABLE'));
      }),
    );
  });

  it('takes no purpose and key id for another pair that reads the same in a row', () => {
    assert.throws(() => seal.open('ab', 'c', seal.seal('a', 'bc', Buffer.from('x'))), code('KEY_UNSEALABLE'));
  });

  it('notices every changed bit and every cut', () => {
    const sealed = seal.seal('p', 'k', Buffer.from('secret'));
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const changed = Buffer.from(sealed);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.throws(() => seal.open('p', 'k', changed), code('KEY_UNSEALABLE'));
    }
    for (let length = 0; length < sealed.length; length++)
      assert.throws(() => seal.open('p', 'k', sealed.subarray(0, length)), code('KEY_UNSEALABLE'));
  });

  it('never seals the same twice to the same bytes, and shows nothing of it', () => {
    const secret = randomBytes(32);
    const [one, two] = [seal.seal('p', 'k', secret), seal.seal('p', 'k', secret)];
    assert.notDeepEqual(one, two);
    assert.equal(one.includes(secret), false);
  });

  it('is made of exactly 32 bytes of base64, a newline after it forgiven', () => {
    const key = newKeyEncryptionKey();
    const sealed = keySealFromKey(key).seal('p', 'k', Buffer.from('x'));
    assert.deepEqual(keySealFromKey(`${key}\n`).open('p', 'k', sealed), Buffer.from('x'));
    for (const bad of [
      '',
      'short',
      randomBytes(31).toString('base64'),
      randomBytes(33).toString('base64'),
      `${key.slice(0, 20)} ${key.slice(20)}`,
      randomBytes(32).toString('hex'),
    ]) {
      assert.throws(() => keySealFromKey(bad), code('CONFIG_INVALID'));
    }
  });

  it('comes from a passphrase and its salt, however its letters are composed', async () => {
    const salt = randomBytes(16);
    const sealed = (await keySealFromPassphrase('pässwörter', salt, cheap)).seal('p', 'k', Buffer.from('x'));
    const decomposed = await keySealFromPassphrase('pässwörter'.normalize('NFD'), salt, cheap);
    assert.deepEqual(decomposed.open('p', 'k', sealed), Buffer.from('x'));
    const others = [keySealFromPassphrase('pässwörtes', salt, cheap), keySealFromPassphrase('pässwörter', randomBytes(16), cheap)];
    for (const other of await Promise.all(others)) assert.throws(() => other.open('p', 'k', sealed), code('KEY_UNSEALABLE'));
    await assert.rejects(keySealFromPassphrase('short', salt, cheap), code('CONFIG_INVALID'));
  });
});

describe('the seal of a store', () => {
  it('opens with the passphrase that it was made with; a wrong one is told at the start', async () => {
    const state = memoryCaState();
    const sealed = (await openKeySeal({ state, secret: { passphrase: 'correct horse' } })).seal('p', 'k', Buffer.from('x'));
    const again = await openKeySeal({ state, secret: { passphrase: 'correct horse' } });
    assert.deepEqual(again.open('p', 'k', sealed), Buffer.from('x'));
    await assert.rejects(openKeySeal({ state, secret: { passphrase: 'battery staple' } }), (error) => {
      assert.ok(error instanceof SignetError);
      assert.equal(error.code, 'KEY_UNSEALABLE');
      assert.match(error.message, /passphrase is wrong/);
      assert.doesNotMatch(error.message, /horse|staple/);
      return true;
    });
    await assert.rejects(openKeySeal({ state, secret: { key: newKeyEncryptionKey() } }), code('KEY_UNSEALABLE'));
  });

  it('opens with the key that it was made with, and no other', async () => {
    const state = memoryCaState();
    const key = newKeyEncryptionKey();
    const sealed = (await openKeySeal({ state, secret: { key } })).seal('p', 'k', Buffer.from('x'));
    assert.deepEqual((await openKeySeal({ state, secret: { key } })).open('p', 'k', sealed), Buffer.from('x'));
    await assert.rejects(openKeySeal({ state, secret: { key: newKeyEncryptionKey() } }), code('KEY_UNSEALABLE'));
    await assert.rejects(openKeySeal({ state, secret: { passphrase: 'correct horse' } }), code('KEY_UNSEALABLE'));
  });

  it('is one for replicas that start together', async () => {
    const state = memoryCaState();
    const [one, two] = await Promise.all([0, 1].map(() => openKeySeal({ state, secret: { passphrase: 'correct horse' } })));
    assert.ok(one && two);
    assert.deepEqual(two.open('p', 'k', one.seal('p', 'k', Buffer.from('x'))), Buffer.from('x'));
  });

  it('does not spend what a tampered document asks for', async () => {
    const state = memoryCaState();
    await openKeySeal({ state, secret: { passphrase: 'correct horse' } });
    const document = state.documents.get('ca/key-encryption');
    assert.ok(document);
    const made = JSON.parse(document.value.toString()) as Record<string, unknown>;
    for (const change of [{ cost: 2 ** 40 }, { cost: 2 }, { blockSize: 1e9 }, { kind: 'none' }, { check: '!' }, { extra: 1 }]) {
      document.value = Buffer.from(JSON.stringify({ ...made, ...change }));
      await assert.rejects(openKeySeal({ state, secret: { passphrase: 'correct horse' } }), code('STORE_CORRUPT'));
    }
  });
});
