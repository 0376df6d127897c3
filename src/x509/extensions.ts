import { hash } from 'node:crypto';
import { DerReader, tag, type Refuse } from './der-reader.ts';
import { boolean, der, octetString, oid, sequence } from './der-writer.ts';
import { extensionOid, purposeOid } from './oids.ts';

/** Names of the bits of KeyUsage, by bit number (RFC 5280 §4.2.1.3). */
const keyUsageNames = [
  'digitalSignature',
  'nonRepudiation',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
  'encipherOnly',
  'decipherOnly',
] as const;
export type KeyUsage = (typeof keyUsageNames)[number];

export function encodeExtension(id: string, critical: boolean, value: Buffer): Buffer {
  return critical ? sequence(oid(id), boolean(true), octetString(value)) : sequence(oid(id), octetString(value));
}

export function keyUsageExtension(...usages: readonly KeyUsage[]): Buffer {
  let bits = 0;
  let last = 0;
  for (const usage of usages) {
    const bit = keyUsageNames.indexOf(usage);
    bits |= 0x8000 >> bit;
    last = Math.max(last, bit);
  }
  // X.690 §11.2.2: a named bit list has no trailing zero bits.
  const octets = last > 7 ? [bits >> 8, bits & 0xff] : [bits >> 8];
  return encodeExtension(extensionOid.keyUsage, true, der(tag.bitString, Buffer.of(7 - (last % 8), ...octets)));
}

export function extendedKeyUsageExtension(...purposes: readonly (keyof typeof purposeOid)[]): Buffer {
  return encodeExtension(extensionOid.extendedKeyUsage, false, sequence(...purposes.map((purpose) => oid(purposeOid[purpose]))));
}

/** Critical, as RFC 5280 §4.2.1.9 wants of a CA; for a leaf DER leaves the default FALSE out. */
export function basicConstraintsExtension(ca: false | { readonly pathLength?: number }): Buffer {
  const fields: Buffer[] = [];
  if (ca) {
    fields.push(boolean(true));
    if (ca.pathLength !== undefined) fields.push(der(tag.integer, Buffer.of(ca.pathLength)));
  }
  return encodeExtension(extensionOid.basicConstraints, true, sequence(...fields));
}

export function subjectKeyIdExtension(keyId: Buffer): Buffer {
  return encodeExtension(extensionOid.subjectKeyId, false, octetString(keyId));
}

export function authorityKeyIdExtension(keyId: Buffer): Buffer {
  return encodeExtension(extensionOid.authorityKeyId, false, sequence(der(0x80, keyId)));
}

/** RFC 5280 §4.2.1.6: critical where the subject is empty. */
export function subjectAltNameExtension(critical: boolean, names: readonly Buffer[]): Buffer {
  return encodeExtension(extensionOid.subjectAltName, critical, sequence(...names));
}

/** RFC 7093 §2 method 1: the leftmost 160 bits of the SHA-256 of the key's octets. */
export function subjectKeyId(publicKeyOctets: Buffer): Buffer {
  // By way of a string: Node makes a Buffer of its own memory for each digest, which costs twice as much.
  return Buffer.from(hash('sha256', publicKeyOctets, 'hex').slice(0, 40), 'hex');
}

/** The octets of the subjectPublicKey BIT STRING of a DER SubjectPublicKeyInfo (a view). */
export function publicKeyOctets(spki: Buffer, refuse: Refuse): Buffer {
  const outer = new DerReader(spki, refuse);
  const info = outer.enter(tag.sequence);
  outer.finish();
  info.skip(tag.sequence);
  const octets = info.octetsOfBits();
  info.finish();
  return octets;
}

export function readKeyUsage(value: DerReader): ReadonlySet<string> {
  const bits = value.content(tag.bitString);
  value.finish();
  const unused = bits[0] ?? 8;
  const last = bits[bits.length - 1] ?? 0;
  if (bits.length < 2 || bits.length > 3 || unused > 7 || (last & ((1 << unused) - 1)) !== 0) throw value.malformed('an odd key usage');
  const mask = ((bits[1] ?? 0) << 8) | (bits[2] ?? 0);
  return new Set(keyUsageNames.filter((_, bit) => (mask & (0x8000 >> bit)) !== 0));
}

export function readBasicConstraints(value: DerReader): { readonly isCa: boolean; readonly pathLength: number | undefined } {
  const fields = value.enter(tag.sequence);
  value.finish();
  const isCa = fields.peek() === tag.boolean && fields.boolean();
  const pathLength = fields.more() ? fields.smallInteger() : undefined;
  fields.finish();
  if (pathLength !== undefined && !isCa) throw fields.malformed('a path length without being a CA');
  return { isCa, pathLength };
}

/** The OIDs, as hex. */
export function readExtendedKeyUsage(value: DerReader): string[] {
  const list = value.enter(tag.sequence);
  value.finish();
  const purposes: string[] = [];
  do {
    if (purposes.length === 32) throw list.malformed('too many purposes');
    purposes.push(list.oid());
  } while (list.more());
  return purposes;
}

/** Hex of the keyIdentifier; undefined if it names the issuer in another way only. */
export function readAuthorityKeyId(value: DerReader): string | undefined {
  const fields = value.enter(tag.sequence);
  value.finish();
  return fields.peek() === 0x80 ? fields.content(0x80).toString('hex') : undefined;
}
