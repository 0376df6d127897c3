import { z } from 'zod';
import { SignetError } from '../base/errors.ts';
import type { TrustDomain } from '../spiffe/id.ts';
import type { JwtKeyRing, JwtSealedKey } from './jwt-key-ring.ts';

const largestDocument = 256 * 1024;

const time = z.int().min(0);
/** 32 bytes in base64url. */
const word = z.string().regex(/^[A-Za-z0-9_-]{43}$/);
const publicKey = { keyId: word, x: word, y: word };
const sealedKey = z.strictObject({
  ...publicKey,
  sealed: z
    .base64()
    .max(4096)
    .transform((text) => Buffer.from(text, 'base64')),
});
const schema = z.strictObject({
  format: z.literal(1),
  trustDomain: z.string().max(255),
  sequence: z.int().min(1),
  active: z.strictObject({ key: sealedKey, publishedAt: time, signsUntil: time, tokensUntil: time }),
  next: z.strictObject({ key: sealedKey, publishedAt: time }).optional(),
  retired: z.array(z.strictObject({ key: z.strictObject(publicKey), publishedUntil: time })).max(100),
});

/** The ring as the store keeps it: private halves sealed, times in whole ms. */
export function encodeJwtKeyRing(ring: JwtKeyRing, trustDomain: TrustDomain): Buffer {
  const text = (key: JwtSealedKey): object => ({ ...key, sealed: key.sealed.toString('base64') });
  const document = {
    format: 1,
    trustDomain,
    sequence: ring.sequence,
    active: { ...ring.active, key: text(ring.active.key) },
    ...(ring.next ? { next: { ...ring.next, key: text(ring.next.key) } } : {}),
    retired: ring.retired,
  };
  return Buffer.from(JSON.stringify(document));
}

/** Throws STORE_CORRUPT, or STORE_MISMATCH for another trust domain's keys. */
export function decodeJwtKeyRing(bytes: Buffer, trustDomain: TrustDomain): JwtKeyRing {
  let parsed: z.infer<typeof schema>;
  try {
    if (bytes.length > largestDocument) throw new Error(`${String(bytes.length)} bytes`);
    parsed = schema.parse(JSON.parse(bytes.toString('utf8')));
  } catch (error) {
    throw new SignetError('STORE_CORRUPT', 'the JWT signing keys in the store are damaged or were written by a newer Signet', {
      cause: error,
    });
  }
  if (parsed.trustDomain !== trustDomain) {
    throw new SignetError(
      'STORE_MISMATCH',
      `the JWT signing keys in this store are of the trust domain ${parsed.trustDomain}, not ${trustDomain}`,
    );
  }
  const { sequence, active, next, retired } = parsed;
  return { sequence, active, next, retired };
}
