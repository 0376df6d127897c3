/** CRC-32C (Castagnoli), reflected, as RFC 3720 §B.4 has it: zlib's crc32 is another polynomial. */
const polynomial = 0x82f63b78;

const table = Uint32Array.from({ length: 256 }, (_, octet) => {
  let value = octet;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ polynomial : value >>> 1;
  return value >>> 0;
});

export function crc32c(data: Uint8Array): number {
  let value = 0xffffffff;
  for (const octet of data) value = (value >>> 8) ^ (table[(value ^ octet) & 0xff] ?? 0);
  return ~value >>> 0;
}
