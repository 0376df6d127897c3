import { randomFillSync } from 'node:crypto';
import { SignetError } from '../base/errors.ts';

const size = 16;
/** One draw from the generator costs 3 us whatever its size. */
const pool = Buffer.alloc(size * 256);
let next = pool.length;

/**
 * 16 random octets for a serial number: positive (top bit clear) and with a first octet above zero, so that it always
 * has 16 octets in DER and in hex. A fresh copy each time; the pool's octets are used once.
 */
export function randomSerial(): Buffer {
  for (;;) {
    if (next === pool.length) {
      randomFillSync(pool);
      next = 0;
    }
    const serial = Buffer.from(pool.subarray(next, next + size));
    next += size;
    const first = (serial[0] ?? 0) & 0x7f;
    serial[0] = first;
    if (first !== 0) return serial;
  }
}

/** RFC 5280 §4.1.2.2: positive, at most 20 octets, minimal. */
export function checkSerial(serial: Buffer): Buffer {
  const first = serial[0] ?? 0;
  if (serial.length > 20 || first >= 0x80 || (first === 0 && (serial[1] ?? 0) < 0x80)) {
    throw new SignetError('INVALID_ARGUMENT', 'a serial number is a positive DER integer of at most 20 octets');
  }
  return serial;
}

/** As Envoy shows it: lower-case hex in whole octets, without the octet that only carries the sign. */
export function serialText(serial: Buffer): string {
  return (serial.length > 1 && serial[0] === 0 ? serial.subarray(1) : serial).toString('hex');
}
