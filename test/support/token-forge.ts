import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { jwkThumbprint } from '../../src/identity/jwk-set.ts';

/** Tokens of any kind, good and bad, made with node:crypto alone: nothing here is shared with what verifies them. */
export interface IssuerKey {
  readonly kid: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  /** Its entry in a JWK set. */
  readonly jwk: Readonly<Record<string, unknown>>;
}

export function ecKey(kid?: string, namedCurve = 'P-256'): IssuerKey {
  return issuerKey(generateKeyPairSync('ec', { namedCurve }), kid);
}

export function rsaKey(kid?: string, modulusLength = 2048): IssuerKey {
  return issuerKey(generateKeyPairSync('rsa', { modulusLength }), kid);
}

function issuerKey(pair: { publicKey: KeyObject; privateKey: KeyObject }, kid?: string): IssuerKey {
  const material = pair.publicKey.export({ format: 'jwk' });
  const { x = '', y = '', crv = '', n = '', e = '' } = material;
  const name = kid ?? jwkThumbprint(material.kty === 'EC' ? { kty: 'EC', crv, x, y } : { kty: 'RSA', n, e });
  return { kid: name, ...pair, jwk: { ...material, kid: name, use: 'sig' } };
}

export function keySet(...keys: readonly IssuerKey[]): { keys: unknown[] } {
  return { keys: keys.map((key) => key.jwk) };
}

export interface PodClaims {
  readonly namespace?: string;
  readonly serviceAccount?: string;
  readonly podUid?: string;
}

/** Claims as the kubelet's projected tokens have them. `now` in ms. */
export function podClaims(now: number, pod: PodClaims = {}): Record<string, unknown> {
  const { namespace = 'shop', serviceAccount = 'web', podUid = '11111111-2222-3333-4444-555555555555' } = pod;
  const seconds = Math.floor(now / 1000);
  return {
    iss: 'https://kubernetes.example',
    sub: `system:serviceaccount:${namespace}:${serviceAccount}`,
    aud: ['signet'],
    exp: seconds + 3600,
    iat: seconds,
    nbf: seconds,
    jti: '7a1f',
    'kubernetes.io': {
      namespace,
      serviceaccount: { name: serviceAccount, uid: 'aaaa' },
      pod: { name: `${serviceAccount}-0`, uid: podUid },
    },
  };
}

export interface Signing {
  readonly alg?: string;
  readonly header?: Readonly<Record<string, unknown>>;
}

/** A compact JWS by this key; `alg` defaults to what the key would use honestly. */
export function signToken(key: IssuerKey, claims: unknown, signing: Signing = {}): string {
  const alg = signing.alg ?? (key.publicKey.asymmetricKeyType === 'rsa' ? 'RS256' : 'ES256');
  const input = `${part({ alg, kid: key.kid, ...signing.header })}.${part(claims)}`;
  return `${input}.${signature(key, alg, input).toString('base64url')}`;
}

/** What attackers do who know the public key alone: HMAC with its PEM as the secret. */
export function hmacToken(secret: string | Buffer, kid: string, claims: unknown, alg = 'HS256'): string {
  const input = `${part({ alg, kid })}.${part(claims)}`;
  return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
}

export function unsignedToken(kid: string, claims: unknown, alg = 'none'): string {
  return `${part({ alg, kid })}.${part(claims)}.`;
}

export function part(value: unknown): string {
  return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
}

function signature(key: IssuerKey, alg: string, input: string): Buffer {
  const digest = `sha${alg.slice(2)}`;
  const data = Buffer.from(input);
  if (alg.startsWith('ES')) return sign(digest, data, { key: key.privateKey, dsaEncoding: 'ieee-p1363' });
  if (alg.startsWith('PS')) return sign(digest, data, { key: key.privateKey, padding: 6, saltLength: -1 });
  return sign(digest, data, key.privateKey);
}
