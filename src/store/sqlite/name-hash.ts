/** Bits of each lane that are kept: 48 in all, an integer that JavaScript and SQLite hold exactly. */
const laneRange = 2 ** 24;

/**
 * A quick hash of a name, for index keys that are verified against the row: two lanes of multiply and xor, as FNV-1a
 * does, from a seed of the database's own, so that names that collide can't be made up in advance. Not for security;
 * SHA-256 would cost as much as the whole insert.
 */
export function nameHash(name: string, seed: number): number {
  let a = 0x811c9dc5 ^ seed;
  let b = 0x9e3779b1 ^ Math.imul(seed, 0x85ebca6b);
  for (let i = 0; i < name.length; i++) {
    const unit = name.charCodeAt(i);
    a = Math.imul(a ^ unit, 0x01000193);
    b = Math.imul(b ^ unit, 0x5bd1e995);
    b ^= b >>> 15;
  }
  a = Math.imul(a ^ (a >>> 16), 0x85ebca6b);
  b = Math.imul(b ^ (b >>> 13), 0xc2b2ae35);
  return ((a ^ (a >>> 13)) >>> 8) * laneRange + ((b ^ (b >>> 16)) >>> 8);
}
