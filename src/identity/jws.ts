import { isUtf8 } from 'node:buffer';
import { verify } from 'node:crypto';
import { z } from 'zod';
import { authenticationFailed } from './authentication-failure.ts';
import type { JsonObject } from './json-pointer.ts';
import { isJsonObject } from './json-pointer.ts';
import type { JwsAlgorithm, SignatureScheme } from './jws-algorithm.ts';
import { jwsAlgorithms } from './jws-algorithm.ts';

/**
 * JWS compact serialisation (RFC 7515 §7.1), checked with node:crypto: a third of the CPU of a WebCrypto library, whose
 * every call is a hop to the thread pool (docs/adr/0006-token-verification.md). Strict where the RFC lets one be lax.
 */
export interface CompactJws {
  readonly algorithm: JwsAlgorithm;
  readonly keyId: string;
  readonly claims: JsonObject;
  readonly signingInput: Buffer;
  readonly signature: Buffer;
}

/** A projected service-account token has 1 to 2 KB. */
export const longestToken = 16_384;

const absent = z.never().optional();

/**
 * What a header may hold for us. Keys that a token brings along or points to are refused rather than ignored (RFC 8725
 * §3.10), so are extensions (`crit`), compression, and types that are other things than a JWT (§3.11).
 */
const headerSchema = z.object({
  alg: z.enum(jwsAlgorithms),
  kid: z.string().min(1).max(256),
  typ: z
    .string()
    .regex(/^(application\/)?jwt$/i)
    .optional(),
  crit: absent,
  b64: absent,
  zip: absent,
  jwk: absent,
  jku: absent,
  x5u: absent,
  x5c: absent,
});

/** Takes the token apart; nothing of it is to be believed yet. Throws UNAUTHENTICATED (reason `malformed`). */
export function parseCompactJws(token: string): CompactJws {
  if (token.length > longestToken) throw malformed(`the token has ${token.length} characters`);
  const headerEnd = token.indexOf('.');
  const payloadEnd = token.indexOf('.', headerEnd + 1);
  if (headerEnd === -1 || payloadEnd === -1 || token.includes('.', payloadEnd + 1)) throw malformed('a token has three parts');
  const header = headerSchema.safeParse(decodeJson(token.slice(0, headerEnd), 'header'));
  if (!header.success)
    throw malformed(`the header's ${header.error.issues.map((issue) => issue.path.join('.')).join(', ')} is not what we take`);
  const claims = decodeJson(token.slice(headerEnd + 1, payloadEnd), 'payload');
  const signature = decodePart(token.slice(payloadEnd + 1), 'signature');
  // latin1 is exact: both parts were just seen to be base64url.
  const signingInput = Buffer.from(token.slice(0, payloadEnd), 'latin1');
  return { algorithm: header.data.alg, keyId: header.data.kid, claims, signingInput, signature };
}

export function verifyJws(jws: CompactJws, scheme: SignatureScheme): boolean {
  return jws.signature.length === scheme.signatureLength && verify(scheme.digest, jws.signingInput, scheme.key, jws.signature);
}

/** RFC 7515 §2: base64url without padding. Encoding it again is the check that no character or bit was skipped. */
function decodePart(part: string, name: string): Buffer {
  const bytes = Buffer.from(part, 'base64url');
  if (part === '' || bytes.toString('base64url') !== part) throw malformed(`the ${name} is not base64url`);
  return bytes;
}

function decodeJson(part: string, name: string): JsonObject {
  const bytes = decodePart(part, name);
  let value: unknown;
  try {
    value = isUtf8(bytes) ? JSON.parse(bytes.toString('utf8')) : undefined;
  } catch {
    // A SyntaxError quotes its input, and this one is a credential: it must not become anybody's cause.
    value = undefined;
  }
  if (!isJsonObject(value)) throw malformed(`the ${name} is not a JSON object`);
  return value;
}

function malformed(detail: string): Error {
  return authenticationFailed('malformed', detail);
}
