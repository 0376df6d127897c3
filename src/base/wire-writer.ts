/**
 * Just enough of protobuf's encoding (https://protobuf.dev/programming-guides/encoding/) to write what we send. Written
 * by hand so that a secret's bytes are made in one place, by encoders that take checked material alone, and are the same
 * bytes each time.
 */
export function textField(number: number, text: string): Buffer {
  return bytesField(number, Buffer.from(text, 'utf8'));
}

/** A string, bytes or embedded message: its tag, its length and itself. */
export function bytesField(number: number, ...parts: readonly Uint8Array[]): Buffer {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = Buffer.allocUnsafe(varintSize((number << 3) | 2) + varintSize(length) + length);
  let at = writeVarint(out, 0, (number << 3) | 2);
  at = writeVarint(out, at, length);
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** A bool, or an enum's small number. */
export function smallField(number: number, value: number): Buffer {
  const out = Buffer.allocUnsafe(varintSize(number << 3) + varintSize(value));
  writeVarint(out, writeVarint(out, 0, number << 3), value);
  return out;
}

export function doubleField(number: number, value: number): Buffer {
  const out = Buffer.allocUnsafe(varintSize((number << 3) | 1) + 8);
  out.writeDoubleLE(value, writeVarint(out, 0, (number << 3) | 1));
  return out;
}

/** One entry of a map whose keys are strings. */
export function entryField(number: number, key: string, value: Uint8Array): Buffer {
  return bytesField(number, textField(1, key), bytesField(2, value));
}

function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) size++;
  return size;
}

function writeVarint(out: Buffer, start: number, value: number): number {
  let at = start;
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) out[at++] = (rest % 0x80) | 0x80;
  out[at++] = rest;
  return at;
}
