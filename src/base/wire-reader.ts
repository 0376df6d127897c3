import { isUtf8 } from 'node:buffer';
import { SignetError } from './errors.ts';

/**
 * Protobuf's encoding, read strictly (https://protobuf.dev/programming-guides/encoding/): what is cut off or malformed is
 * refused, where the usual library makes do with what there is. Unknown fields are skipped without a look inside, which a
 * node's metadata of 60 KB is grateful for.
 */
export function readFields(bytes: Buffer, take: (field: number, value: Buffer | number) => void): void {
  let at = 0;

  function varint(): number {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < 10; count++) {
      const byte = bytes[at++];
      if (byte === undefined) throw malformed();
      // Beyond 53 bits a number is no longer exact; none that we read is that large.
      if (scale < 2 ** 53) value += (byte & 0x7f) * scale;
      scale *= 0x80;
      if (byte < 0x80) return value;
    }
    throw malformed();
  }

  function chunk(length: number): Buffer {
    if (length > bytes.length - at) throw malformed();
    const start = at;
    at += length;
    return bytes.subarray(start, at);
  }

  while (at < bytes.length) {
    const tag = varint();
    const field = Math.floor(tag / 8);
    if (field === 0 || field > 0x1fff_ffff) throw malformed();
    switch (tag % 8) {
      case 0:
        take(field, varint());
        break;
      case 1:
        chunk(8);
        break;
      case 2:
        take(field, chunk(varint()));
        break;
      case 5:
        chunk(4);
        break;
      default:
        // Groups, which nothing sends since proto3.
        throw malformed();
    }
  }
}

/** A string as proto3 has it: valid UTF-8. A value of another kind is a field that we don't know. */
export function textOf(value: Buffer | number): string | undefined {
  if (typeof value === 'number') return undefined;
  if (!isUtf8(value)) throw malformed();
  return value.toString('utf8');
}

/** One entry of a map<string, string>; what is left out is empty. */
export function entryOf(value: Buffer): readonly [key: string, value: string] {
  let key = '';
  let mapped = '';
  readFields(value, (field, part) => {
    if (field === 1) key = textOf(part) ?? key;
    else if (field === 2) mapped = textOf(part) ?? mapped;
  });
  return [key, mapped];
}

function malformed(): SignetError {
  return new SignetError('INVALID_ARGUMENT', 'not a protobuf message');
}
