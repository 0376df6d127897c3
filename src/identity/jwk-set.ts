import { createHash, createPublicKey } from 'node:crypto';
import { z } from 'zod';
import { SignetError } from '../base/errors.ts';
import type { JwsAlgorithm, SignatureScheme } from './jws-algorithm.ts';
import { schemesFor } from './jws-algorithm.ts';

/** One public key of an issuer, imported once. */
export interface VerificationKey {
  readonly keyId: string;
  /** RFC 7638, base64url: names the key material itself, whatever `kid` it goes by. */
  readonly thumbprint: string;
  /** By algorithm; more than one where an RSA key doesn't say which. */
  readonly schemes: ReadonlyMap<JwsAlgorithm, SignatureScheme>;
}

export interface JwkSet {
  readonly keys: ReadonlyMap<string, VerificationKey>;
  /** For the log: which entries are not used, and why. */
  readonly skipped: readonly string[];
}

export const longestKeySet = 256 * 1024;
const mostKeys = 128;

const setSchema = z.object({ keys: z.array(z.unknown()).max(mostKeys) });
const base64Url = z.string().min(1).max(2048);
const entrySchema = z.object({
  kty: z.string().max(16),
  kid: z.string().min(1).max(256).optional(),
  use: z.string().max(64).optional(),
  key_ops: z.array(z.string().max(64)).max(16).optional(),
  alg: z.string().max(64).optional(),
});
// Public members alone are picked: a private key published by mistake never gets further than this.
const materialSchema = z.discriminatedUnion('kty', [
  z.object({ kty: z.literal('EC'), crv: z.string().max(16), x: base64Url, y: base64Url }),
  z.object({ kty: z.literal('RSA'), n: base64Url, e: base64Url }),
]);

type Material = z.infer<typeof materialSchema>;

/** RFC 7638 §3.2: the required members, in lexical order. */
export function jwkThumbprint(jwk: Material): string {
  const canonical = jwk.kty === 'EC' ? { crv: jwk.crv, kty: jwk.kty, x: jwk.x, y: jwk.y } : { e: jwk.e, kty: jwk.kty, n: jwk.n };
  return createHash('sha256').update(JSON.stringify(canonical)).digest('base64url');
}

/**
 * A JWK Set (RFC 7517). Entries that we can't use are skipped, as §5 says; a document that is no key set throws
 * INVALID_ARGUMENT. An empty one is valid: its issuer has withdrawn every key.
 */
export function parseJwkSet(text: string): JwkSet {
  if (text.length > longestKeySet) throw new SignetError('TOO_LARGE', `a key set has at most ${longestKeySet} bytes`);
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw new SignetError('INVALID_ARGUMENT', 'the key set is not JSON');
  }
  const set = setSchema.safeParse(document);
  if (!set.success) throw new SignetError('INVALID_ARGUMENT', `the document is not a JWK set with a list "keys" of at most ${mostKeys}`);
  const keys = new Map<string, VerificationKey>();
  const skipped: string[] = [];
  const twice = new Set<string>();
  set.data.keys.forEach((entry, i) => {
    const key = importEntry(entry);
    if (typeof key === 'string') {
      skipped.push(`keys[${i}]: ${key}`);
      return;
    }
    const same = keys.get(key.keyId);
    if (same && same.thumbprint !== key.thumbprint) twice.add(key.keyId);
    keys.set(key.keyId, same ? { ...key, schemes: new Map([...same.schemes, ...key.schemes]) } : key);
  });
  for (const keyId of twice) {
    // Which of the two was meant can't be told; trying each would make the answer depend on the order.
    keys.delete(keyId);
    skipped.push(`two different keys have the kid ${JSON.stringify(keyId)}: neither is used`);
  }
  return { keys, skipped };
}

/** A string says why the entry is not used. */
function importEntry(entry: unknown): VerificationKey | string {
  const parsed = entrySchema.safeParse(entry);
  if (!parsed.success) return 'not a JWK';
  const { use, key_ops: operations, alg } = parsed.data;
  if (use !== undefined && use !== 'sig') return 'not for signatures (use)';
  if (operations !== undefined && !operations.includes('verify')) return 'not for verifying (key_ops)';
  const material = materialSchema.safeParse(entry);
  if (!material.success) return 'neither an RSA nor an EC public key';
  let schemes: ReadonlyMap<JwsAlgorithm, SignatureScheme>;
  try {
    schemes = schemesFor(createPublicKey({ key: material.data, format: 'jwk' }));
  } catch {
    return 'the key can not be read';
  }
  if (alg !== undefined) schemes = new Map([...schemes].filter(([algorithm]) => algorithm === alg));
  if (schemes.size === 0) return 'no algorithm of ours fits it (RSA has 2048 to 8192 bits; EC is P-256, P-384 or P-521)';
  const thumbprint = jwkThumbprint(material.data);
  return { keyId: parsed.data.kid ?? thumbprint, thumbprint, schemes };
}
