import { createPublicKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { decodeJwt, decodeProtectedHeader, errors, jwtVerify } from 'jose';
import type { JWTPayload } from 'jose';
import { z } from 'zod';
import type { Clock } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import { isSpiffeId, trustDomainOf } from '../spiffe/id.ts';
import type { SpiffeId } from '../spiffe/id.ts';

/** JWT-SVID §2.1: asymmetric signatures alone, so that no public key can serve as an HMAC secret. */
const algorithms = ['RS256', 'RS384', 'RS512', 'ES256', 'ES384', 'ES512', 'PS256', 'PS384', 'PS512'];
const longestToken = 16_384;
/** Between the clock of the signer and ours. */
const leewaySeconds = 10;

export interface ValidatedJwtSvid {
  readonly spiffeId: SpiffeId;
  readonly claims: JWTPayload;
}

export interface JwtValidator {
  /** Throws INVALID_ARGUMENT saying what of the token is not as it must be, with nothing of the token in it. */
  validate(request: { readonly audience: string; readonly token: string }, bundles: ReadonlyMap<string, string>): Promise<ValidatedJwtSvid>;
}

/** JWT-SVIDs (https://github.com/spiffe/spiffe/blob/main/standards/JWT-SVID.md §4) against the JWT bundles. */
export function createJwtValidator(clock: Clock): JwtValidator {
  const known = new Map<string, { readonly text: string; readonly keys: ReadonlyMap<string, KeyObject> }>();

  /** A bundle's keys are imported once. */
  function keysOf(trustDomain: string, text: string): ReadonlyMap<string, KeyObject> {
    const before = known.get(trustDomain);
    if (before?.text === text) return before.keys;
    const keys = importKeys(text);
    known.set(trustDomain, { text, keys });
    return keys;
  }

  return {
    async validate({ audience, token }, bundles) {
      const { spiffeId, keyId } = claimed(token);
      const trustDomain = `spiffe://${trustDomainOf(spiffeId)}`;
      for (const name of known.keys()) if (!bundles.has(name)) known.delete(name);
      const bundle = bundles.get(trustDomain);
      if (bundle === undefined) throw invalid('its trust domain is not one that this workload trusts');
      // JWT-SVID §5: the bundle of the subject's own trust domain, never another's.
      const key = keysOf(trustDomain, bundle).get(keyId);
      if (!key) throw invalid('its trust domain has no such key');
      const claims = await verified(token, key, audience, clock);
      if (claims.sub !== spiffeId) throw invalid('its subject is not a SPIFFE ID');
      return { spiffeId, claims };
    },
  };
}

/** Who it says it is and by which key; nothing of it is to be believed yet. */
function claimed(token: string): { readonly spiffeId: SpiffeId; readonly keyId: string } {
  if (token.length > longestToken) throw invalid('it is longer than 16 KiB');
  let header: ReturnType<typeof decodeProtectedHeader>;
  let subject: string | undefined;
  try {
    header = decodeProtectedHeader(token);
    ({ sub: subject } = decodeJwt(token));
  } catch {
    throw invalid('it is not a JWT');
  }
  // JWT-SVID §2.3: of other types are other things than a JWT-SVID, signed for another purpose.
  if (header.typ !== undefined && header.typ !== 'JWT' && header.typ !== 'JOSE') throw invalid('its header has another type');
  if (typeof header.kid !== 'string' || header.kid === '') throw invalid('its header names no key');
  if (typeof subject !== 'string' || !isSpiffeId(subject)) throw invalid('its subject is not a SPIFFE ID');
  return { spiffeId: subject, keyId: header.kid };
}

async function verified(token: string, key: KeyObject, audience: string, clock: Clock): Promise<JWTPayload> {
  try {
    const { payload } = await jwtVerify(token, key, {
      algorithms,
      audience,
      requiredClaims: ['exp'],
      clockTolerance: leewaySeconds,
      currentDate: new Date(clock.now()),
    });
    return payload;
  } catch (error) {
    // Not as a cause: these errors carry the claims.
    if (error instanceof errors.JWTExpired) throw invalid('it has expired');
    if (error instanceof errors.JWTClaimValidationFailed) throw invalid(`its claim "${error.claim}" is missing or not as it must be`);
    if (error instanceof errors.JOSEAlgNotAllowed) throw invalid('its algorithm is not one of JWT-SVID');
    throw invalid('its signature does not verify');
  }
}

const setSchema = z.object({ keys: z.array(z.unknown()).max(256) });
const keySchema = z.looseObject({ kid: z.string().min(1), kty: z.enum(['EC', 'RSA']), use: z.string().optional() });

/** By key id. Keys of other uses, and those that we can't use, are left out (SPIFFE Trust Domain and Bundle §4.2). */
function importKeys(text: string): ReadonlyMap<string, KeyObject> {
  const keys = new Map<string, KeyObject>();
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new SignetError('INTERNAL', 'internal error', { cause: error });
  }
  for (const entry of setSchema.parse(document).keys) {
    const jwk = keySchema.safeParse(entry).data;
    if (!jwk || (jwk.use !== undefined && jwk.use !== 'jwt-svid' && jwk.use !== 'sig')) continue;
    try {
      keys.set(jwk.kid, createPublicKey({ key: jwk, format: 'jwk' }));
    } catch {
      // Of a curve that we don't know, or damaged: its tokens don't verify.
    }
  }
  return keys;
}

function invalid(what: string): SignetError {
  return new SignetError('INVALID_ARGUMENT', `the JWT-SVID is not valid: ${what}`);
}
