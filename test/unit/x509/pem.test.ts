import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SignetError } from '../../../src/base/errors.ts';
import { certificatesFromPem, pemDecode, pemEncode } from '../../../src/x509/pem.ts';

const limits = { maxCharacters: 100_000, maxBlocks: 4 };
const code = (expected: string) => (error: unknown) => error instanceof SignetError && error.code === expected;

test('blocks read back as they were written, whatever stands between them', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { minLength: 1, maxLength: 4 }),
      fc.constantFrom('', '\n', 'subject=CN\r\n'),
      (blocks, between) => {
        const text = blocks.map((block) => between + pemEncode('CERTIFICATE', block)).join('');
        assert.deepEqual(
          pemDecode(text, 'CERTIFICATE', limits).map((der) => der.toString('hex')),
          blocks.map((block) => Buffer.from(block).toString('hex')),
        );
      },
    ),
    { numRuns: 100 },
  );
});

test('lines are 64 columns wide and end in a newline; CRLF is read too', () => {
  const text = pemEncode('CERTIFICATE', Buffer.alloc(100));
  assert.deepEqual(
    text.split('\n').map((line) => line.length),
    [27, 64, 64, 8, 25, 0],
  );
  assert.equal(pemDecode(text.replaceAll('\n', '\r\n'), 'CERTIFICATE', limits)[0]?.length, 100);
});

test('a private key among certificates is refused, and nothing of it is in the message', () => {
  const secret = pemEncode('PRIVATE KEY', Buffer.from('the secret scalar'));
  const text = pemEncode('CERTIFICATE', Buffer.alloc(40)) + secret;
  assert.throws(
    () => certificatesFromPem(text),
    (error) =>
      code('INVALID_ARGUMENT')(error) && error instanceof Error && error.message.includes('PRIVATE KEY') && !error.message.includes('dGhl'),
  );
});

test('damaged base64 is refused instead of read as something shorter', () => {
  const text = pemEncode('CERTIFICATE', Buffer.alloc(60, 7));
  for (const damaged of [
    text.replace('BwcH', 'Bw*H'),
    text.replace('BwcH', 'BwH'),
    text.replace('BwcH', 'Bw=H'),
    text.slice(0, -10),
    text.replace('-----END', '----END'),
  ]) {
    assert.throws(() => pemDecode(damaged, 'CERTIFICATE', limits), code('INVALID_ARGUMENT'));
  }
  assert.throws(() => pemDecode(pemEncode('CERTIFICATE', Buffer.alloc(0)), 'CERTIFICATE', limits), code('INVALID_ARGUMENT'));
});

test('sizes are checked before anything is decoded', () => {
  assert.throws(() => pemDecode('x'.repeat(100_001), 'CERTIFICATE', limits), code('TOO_LARGE'));
  assert.throws(() => pemDecode(pemEncode('CERTIFICATE', Buffer.alloc(8)).repeat(5), 'CERTIFICATE', limits), code('TOO_LARGE'));
  assert.throws(() => certificatesFromPem('nothing here'), code('INVALID_ARGUMENT'));
});
