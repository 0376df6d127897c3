import { createPrivateKey, createPublicKey, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { z } from 'zod';
import { SignetError } from '../base/errors.ts';
import { jwkThumbprint } from '../identity/jwk-set.ts';
import { generateKeyPair } from '../x509/keys.ts';
import type { JwtPublicKey, JwtSealedKey } from './jwt-key-ring.ts';

/** Encrypts private keys at rest, bound to what they are for and to their id. */
export interface JwtKeySeal {
  seal(purpose: string, keyId: string, plaintext: Buffer): Buffer;
  /** Throws KEY_UNSEALABLE. */
  open(purpose: string, keyId: string, sealed: Buffer): Buffer;
}

const purpose = 'trust/jwt-signing';
const coordinates = z.object({ x: z.string(), y: z.string() });

/** A new ES256 key, its private half sealed. */
export function makeJwtKey(seal: JwtKeySeal): JwtSealedKey {
  const { privateKey } = generateKeyPair('ec-p256');
  const half = publicHalfOf(privateKey);
  const plaintext = privateKey.export({ type: 'pkcs8', format: 'der' });
  const sealed = seal.seal(purpose, half.keyId, plaintext);
  plaintext.fill(0);
  return { ...half, sealed };
}

/** Throws KEY_UNSEALABLE, or STORE_CORRUPT if the private half is another key's. */
export function openJwtKey(seal: JwtKeySeal, key: JwtSealedKey): KeyObject {
  const plaintext = seal.open(purpose, key.keyId, key.sealed);
  const privateKey = createPrivateKey({ key: plaintext, format: 'der', type: 'pkcs8' });
  plaintext.fill(0);
  const { keyId, x, y } = publicHalfOf(privateKey);
  if (keyId !== key.keyId || x !== key.x || y !== key.y) {
    throw new SignetError('STORE_CORRUPT', 'a JWT signing key in the store is not the one that is published');
  }
  return privateKey;
}

function publicHalfOf(privateKey: KeyObject): JwtPublicKey {
  const { x, y } = coordinates.parse(createPublicKey(privateKey).export({ format: 'jwk' }));
  return { keyId: jwkThumbprint({ kty: 'EC', crv: 'P-256', x, y }), x, y };
}

/** A compact JWS (RFC 7515 §7.1) by ES256, with the header that JWT-SVIDs have (JWT-SVID §2). */
export function signCompact(privateKey: KeyObject, keyId: string, claims: object): string {
  const input = `${part({ alg: 'ES256', kid: keyId, typ: 'JWT' })}.${part(claims)}`;
  // RFC 7518 §3.4: r and s side by side, not their DER.
  const signature = sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' });
  return `${input}.${signature.toString('base64url')}`;
}

function part(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
