import type { SignetError } from '../base/errors.ts';

/** Tag octets of the types that X.509 and PKCS#10 use. Context tags are written out where they occur. */
export const tag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** Makes the error that the caller of a parser throws for malformed input. */
export type Refuse = (what: string) => SignetError;

/**
 * A forward cursor over DER (X.690 §10): definite, minimal lengths and low tag numbers only. Every byte is read at most
 * once on each level and nothing recurses, so the work is bounded by the input times the depth that the caller spells out.
 */
export class DerReader {
  readonly bytes: Buffer;
  private readonly refuse: Refuse;
  private readonly end: number;
  private position: number;
  private contentStart = 0;

  constructor(bytes: Buffer, refuse: Refuse, start = 0, end = bytes.length) {
    this.bytes = bytes;
    this.refuse = refuse;
    this.position = start;
    this.end = end;
  }

  more(): boolean {
    return this.position < this.end;
  }

  /** The next element's tag octet, or -1 at the end. */
  peek(): number {
    return this.position < this.end ? (this.bytes[this.position] ?? -1) : -1;
  }

  /** Reads the header of the next element and moves behind the element; its content is [contentStart, position). */
  private advance(expected: number): void {
    const { bytes, end } = this;
    let at = this.position;
    if (at + 2 > end) throw this.malformed('it ends too early');
    const found = bytes[at] ?? 0;
    if (expected >= 0 && found !== expected) throw this.malformed(`tag ${hex(expected)} expected, ${hex(found)} found`);
    if ((found & 0x1f) === 0x1f) throw this.malformed('a tag number above 30');
    let length = bytes[at + 1] ?? 0;
    at += 2;
    if (length >= 0x80) {
      const count = length & 0x7f;
      // 0x80 is BER's indefinite form; more than three octets is beyond any cap of ours.
      if (count === 0 || count > 3 || at + count > end) throw this.malformed('a length that is not DER or too long');
      length = 0;
      for (let i = 0; i < count; i++) length = length * 256 + (bytes[at + i] ?? 0);
      at += count;
      if (length < 0x80 || length < 256 ** (count - 1)) throw this.malformed('a length that is not minimal');
    }
    if (at + length > end) throw this.malformed('an element reaches past its container');
    this.contentStart = at;
    this.position = at + length;
  }

  /** A reader over the content of the next element, which must have this tag. */
  enter(expected: number): DerReader {
    this.advance(expected);
    return new DerReader(this.bytes, this.refuse, this.contentStart, this.position);
  }

  /** The content octets of the next element (a view). */
  content(expected: number): Buffer {
    this.advance(expected);
    return this.bytes.subarray(this.contentStart, this.position);
  }

  /** The next element whole, header included (a view). */
  element(expected = -1): Buffer {
    const start = this.position;
    this.advance(expected);
    return this.bytes.subarray(start, this.position);
  }

  skip(expected = -1): void {
    this.advance(expected);
  }

  /** An OBJECT IDENTIFIER as the hex of its content octets: compared, never interpreted. */
  oid(): string {
    this.advance(tag.oid);
    const length = this.position - this.contentStart;
    if (length === 0 || length > 64) throw this.malformed('an object identifier of an odd length');
    return this.bytes.toString('hex', this.contentStart, this.position);
  }

  /** X.690 §11.1: DER's TRUE is 0xff and nothing else. */
  boolean(): boolean {
    this.advance(tag.boolean);
    const value = this.bytes[this.contentStart] ?? 1;
    if (this.position - this.contentStart !== 1 || (value !== 0 && value !== 0xff)) throw this.malformed('a BOOLEAN that is not DER');
    return value === 0xff;
  }

  /** The content octets of an INTEGER in its minimal form (X.690 §8.3.2), sign octet included (a view). */
  integer(): Buffer {
    this.advance(tag.integer);
    const value = this.bytes.subarray(this.contentStart, this.position);
    const first = value[0];
    const second = value[1];
    if (first === undefined) throw this.malformed('an empty INTEGER');
    if (second !== undefined && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80)))
      throw this.malformed('an INTEGER that is not minimal');
    return value;
  }

  /** An INTEGER of 0 to 2^31-1. */
  smallInteger(): number {
    const value = this.integer();
    if (value.length > 4 || (value[0] ?? 0) >= 0x80) throw this.malformed('an INTEGER out of range');
    return value.readUIntBE(0, value.length);
  }

  /** The octets of a BIT STRING that holds whole octets, as keys and signatures do (a view). */
  octetsOfBits(): Buffer {
    this.advance(tag.bitString);
    if (this.position === this.contentStart || this.bytes[this.contentStart] !== 0)
      throw this.malformed('a BIT STRING that is not of whole octets');
    return this.bytes.subarray(this.contentStart + 1, this.position);
  }

  finish(): void {
    if (this.position !== this.end) throw this.malformed('bytes behind the last element');
  }

  malformed(what: string): SignetError {
    return this.refuse(`malformed DER at byte ${String(this.position)}: ${what}`);
  }
}

function hex(octet: number): string {
  return `0x${octet.toString(16).padStart(2, '0')}`;
}
