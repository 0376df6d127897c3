import { tag } from './der-reader.ts';

/** How many octets tag and length of an element with a content of this many octets take. */
export function headerSize(length: number): number {
  return length < 0x80 ? 2 : length < 0x100 ? 3 : length < 0x10000 ? 4 : 5;
}

/** Writes tag and length at `at`; returns the offset behind them. */
export function writeHeader(target: Buffer, at: number, tagOctet: number, length: number): number {
  target[at] = tagOctet;
  if (length < 0x80) {
    target[at + 1] = length;
    return at + 2;
  }
  const count = headerSize(length) - 2;
  target[at + 1] = 0x80 | count;
  target.writeUIntBE(length, at + 2, count);
  return at + 2 + count;
}

/** One element: the tag octet, the length, and the parts as content. */
export function der(tagOctet: number, ...parts: readonly Uint8Array[]): Buffer {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = Buffer.allocUnsafe(headerSize(length) + length);
  let at = writeHeader(out, 0, tagOctet, length);
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

export function sequence(...parts: readonly Uint8Array[]): Buffer {
  return der(tag.sequence, ...parts);
}

/** From the hex of the content octets, as oids.ts has them. */
export function oid(hex: string): Buffer {
  return der(tag.oid, Buffer.from(hex, 'hex'));
}

/** A non-negative INTEGER from its magnitude: leading zeros go, a sign octet comes where X.690 §8.3 needs one. */
export function unsignedInteger(magnitude: Uint8Array): Buffer {
  let start = 0;
  while (start < magnitude.length - 1 && magnitude[start] === 0) start++;
  const rest = magnitude.subarray(start);
  const first = rest[0];
  if (first === undefined) return der(tag.integer, Buffer.of(0));
  return first >= 0x80 ? der(tag.integer, Buffer.of(0), rest) : der(tag.integer, rest);
}

export function boolean(value: boolean): Buffer {
  return der(tag.boolean, Buffer.of(value ? 0xff : 0));
}

export function octetString(content: Uint8Array): Buffer {
  return der(tag.octetString, content);
}

/** A BIT STRING of whole octets. */
export function bitString(octets: Uint8Array): Buffer {
  return der(tag.bitString, Buffer.of(0), octets);
}

export function utf8String(text: string): Buffer {
  return der(tag.utf8String, Buffer.from(text, 'utf8'));
}
