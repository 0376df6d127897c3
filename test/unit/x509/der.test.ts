import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SignetError } from '../../../src/base/errors.ts';
import { DerReader, tag } from '../../../src/x509/der-reader.ts';
import { encodeTime, readTime } from '../../../src/x509/der-time.ts';
import { der, unsignedInteger } from '../../../src/x509/der-writer.ts';

const refuse = (what: string): SignetError => new SignetError('INVALID_ARGUMENT', what);
const read = (hex: string): DerReader => new DerReader(Buffer.from(hex, 'hex'), refuse);
const refused = (pattern: RegExp) => (error: unknown) => error instanceof SignetError && pattern.test(error.message);

test('what the writer writes, the reader reads, at every size of a length', () => {
  for (const size of [0, 1, 127, 128, 255, 256, 65535, 65536, 70000]) {
    const content = Buffer.alloc(size, 0x41);
    const reader = new DerReader(der(tag.octetString, content), refuse);
    assert.ok(reader.content(tag.octetString).equals(content), String(size));
    reader.finish();
  }
});

test('BER that is not DER is refused', () => {
  assert.throws(() => read('308000').enter(tag.sequence), refused(/length/));
  assert.throws(() => read('0281010a').integer(), refused(/not minimal/));
  assert.throws(() => read('048200800000').content(tag.octetString), refused(/not minimal|past/));
  assert.throws(() => read('04840000000100').content(tag.octetString), refused(/length/));
  assert.throws(() => read('1f810100').element(), refused(/tag number/));
  assert.throws(() => read('010101').boolean(), refused(/BOOLEAN/));
  assert.throws(() => read('0202007f').integer(), refused(/not minimal/));
  assert.throws(() => read('0202ffff').integer(), refused(/not minimal/));
  assert.throws(() => read('0200').integer(), refused(/empty/));
  assert.throws(() => read('030201ff').octetsOfBits(), refused(/whole octets/));
  assert.throws(() => read('0300').octetsOfBits(), refused(/whole octets/));
  assert.throws(() => read('0600').oid(), refused(/identifier/));
  assert.throws(() => read('0205008000000000').smallInteger(), refused(/out of range/));
});

test('an element may not reach past its container', () => {
  assert.throws(() => read('3003020200').enter(tag.sequence).integer(), refused(/past|early/));
  assert.throws(() => read('30030201').enter(tag.sequence), refused(/past/));
  // The inner length would be good in the whole buffer, but not in its SEQUENCE.
  assert.throws(() => read('3003020200ffff').enter(tag.sequence).integer(), refused(/past/));
});

test('bytes behind the last element are refused', () => {
  const reader = read('020101ff');
  reader.integer();
  assert.throws(
    () => {
      reader.finish();
    },
    refused(/behind/),
  );
});

test('an unsigned integer keeps its value and gets a sign octet only where it needs one', () => {
  assert.equal(unsignedInteger(Buffer.of(0, 0, 0x7f)).toString('hex'), '02017f');
  assert.equal(unsignedInteger(Buffer.of(0x80)).toString('hex'), '02020080');
  assert.equal(unsignedInteger(Buffer.alloc(0)).toString('hex'), '020100');
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 24 }), (magnitude) => {
      const value = new DerReader(unsignedInteger(magnitude), refuse).integer();
      assert.equal(BigInt(`0x00${value.toString('hex')}`), BigInt(`0x00${Buffer.from(magnitude).toString('hex')}`));
    }),
    { numRuns: 200 },
  );
});

test('dates are UTCTime through 2049 and GeneralizedTime from 2050 on, and read back to the second', () => {
  assert.equal(
    encodeTime(Date.UTC(2049, 11, 31, 23, 59, 59))
      .subarray(2)
      .toString(),
    '491231235959Z',
  );
  assert.equal(
    encodeTime(Date.UTC(2050, 0, 1))
      .subarray(2)
      .toString(),
    '20500101000000Z',
  );
  assert.equal(
    encodeTime(Date.UTC(1950, 0, 1))
      .subarray(2)
      .toString(),
    '500101000000Z',
  );
  assert.throws(() => encodeTime(Date.UTC(1949, 11, 31)), refused(/years/));
  assert.throws(() => encodeTime(Date.UTC(10000, 0, 1)), refused(/years/));
  assert.throws(() => encodeTime(Number.NaN), refused(/years/));
  fc.assert(
    fc.property(fc.integer({ min: Date.UTC(1950, 0, 1), max: Date.UTC(9999, 11, 31, 23, 59, 59) }), (at) => {
      assert.equal(readTime(new DerReader(encodeTime(at), refuse)), Math.floor(at / 1000) * 1000);
    }),
    { numRuns: 300 },
  );
});

test('times that RFC 5280 does not allow, and days that do not exist, are refused', () => {
  const utc = (text: string): DerReader => new DerReader(der(tag.utcTime, Buffer.from(text)), refuse);
  const generalized = (text: string): DerReader => new DerReader(der(tag.generalizedTime, Buffer.from(text)), refuse);
  assert.equal(readTime(utc('491231235959Z')), Date.UTC(2049, 11, 31, 23, 59, 59));
  assert.equal(readTime(utc('500101000000Z')), Date.UTC(1950, 0, 1));
  for (const text of [
    '2611231200Z',
    '261123120000+0000',
    '26112312000',
    '261131120000Z',
    '260229000000Z',
    '261123240000Z',
    '261123006000Z',
    '2611230000 0Z',
    '',
  ]) {
    assert.throws(() => readTime(utc(text)), SignetError, text);
  }
  for (const text of ['20261123120000.5Z', '20261123120000', '00500101000000Z', '20261323120000Z', '202a1123120000Z']) {
    assert.throws(() => readTime(generalized(text)), SignetError, text);
  }
});

test('on random bytes every reading throws a SignetError or ends, and never reads past the end', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 40 }), (bytes, steps) => {
      let reader = new DerReader(Buffer.from(bytes), refuse);
      try {
        for (const step of steps) {
          const next = reader.peek();
          if (step === 0) reader = reader.enter(next);
          else if (step === 1) reader.integer();
          else if (step === 2) reader.oid();
          else if (step === 3) reader.boolean();
          else if (step === 4) reader.octetsOfBits();
          else if (step === 5) readTime(reader);
          else if (step === 6) reader.smallInteger();
          else assert.ok(reader.element().length <= bytes.length);
        }
        reader.finish();
      } catch (error) {
        assert.ok(error instanceof SignetError, String(error));
      }
    }),
    { numRuns: 2000 },
  );
});
