import { isUtf8 } from 'node:buffer';
import { verify } from 'node:crypto';
import { z } from 'zod';
import { sequence, unsignedInteger } from '../x509/der-writer.ts';
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
  const header = parseHeader(token.slice(0, headerEnd));
  const claims = decodeJson(token.slice(headerEnd + 1, payloadEnd), 'payload');
  const signature = decodePart(token.slice(payloadEnd + 1), 'signature');
  // latin1 is exact: both parts were just seen to be base64url.
  const signingInput = Buffer.from(token.slice(0, payloadEnd), 'latin1');
  return { algorithm: header.alg, keyId: header.kid, claims, signingInput, signature };
}

export function verifyJws(jws: CompactJws, scheme: SignatureScheme): boolean {
  if (jws.signature.length !== scheme.signatureLength) return false;
  const signature = scheme.rawEcdsa ? ecdsaDer(jws.signature) : jws.signature;
  return verify(scheme.digest, jws.signingInput, scheme.key, signature);
}

/** Ecdsa-Sig-Value (RFC 3279 §2.2.3) of r and s, each half of the bytes. */
function ecdsaDer(signature: Buffer): Buffer {
  const half = signature.length / 2;
  return sequence(unsignedInteger(signature.subarray(0, half)), unsignedInteger(signature.subarray(half)));
}

type Header = z.infer<typeof headerSchema>;

/** All tokens that one key signs have one header: what it says is remembered, as reading it is a good part of reading a token. */
const knownHeaders = new Map<string, Header>();
const mostKnownHeaders = 64;

function parseHeader(part: string): Header {
  const known = knownHeaders.get(part);
  if (known) return known;
  const header = headerSchema.safeParse(decodeJson(part, 'header'));
  if (!header.success) {
    throw malformed(`the header's ${header.error.issues.map((issue) => issue.path.join('.')).join(', ')} is not what we take`);
  }
  if (knownHeaders.size >= mostKnownHeaders) knownHeaders.clear();
  knownHeaders.set(part, header.data);
  return header.data;
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
