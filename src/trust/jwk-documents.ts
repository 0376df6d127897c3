import type { JwtPublicKey } from './jwt-key-ring.ts';

/** For SPIFFE clients: a bundle's JWT half (SPIFFE Trust Domain and Bundle §4.2.2). */
export function bundleJwks(keys: readonly JwtPublicKey[]): string {
  return JSON.stringify({ keys: keys.map((key) => ({ ...jwk(key), use: 'jwt-svid' })) });
}

/** For OpenID Connect relying parties, which take keys for signatures alone (RFC 7517 §4.2, §4.4). */
export function oidcJwks(keys: readonly JwtPublicKey[]): string {
  return JSON.stringify({ keys: keys.map((key) => ({ ...jwk(key), use: 'sig', alg: 'ES256' })) });
}

function jwk({ keyId, x, y }: JwtPublicKey): object {
  return { kty: 'EC', kid: keyId, crv: 'P-256', x, y };
}
