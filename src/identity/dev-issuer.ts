import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, randomUUID } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import { jwkThumbprint } from './jwk-set.ts';

/** What `--dev` trusts; the issuer's key is in the data folder and nowhere else. */
export const devIssuerName = 'signet-dev-issuer';

export interface DevTokenRequest {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** `<serviceAccount>-0` unless given. */
  readonly pod?: string | undefined;
  readonly audience: string | readonly string[];
  readonly ttlMs: number;
}

/** Mints tokens like those that the kubelet projects into pods. For development alone. */
export interface DevIssuer {
  /** The `iss` claim. */
  readonly issuer: string;
  /** The JWK set with its public key. */
  jwks(): object;
  /** Throws INVALID_ARGUMENT on names that Kubernetes would not take. */
  mint(request: DevTokenRequest): Promise<string>;
}

/** A new P-256 key, as PKCS#8 PEM. */
export function createDevIssuerKey(): string {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}

/** Throws INVALID_ARGUMENT if the PEM holds no P-256 key. */
export function openDevIssuer(pem: string, options: { readonly clock: Clock; readonly issuer?: string | undefined }): DevIssuer {
  const issuer = options.issuer ?? devIssuerName;
  const privateKey = readKey(pem);
  const { x = '', y = '' } = createPublicKey(privateKey).export({ format: 'jwk' });
  const publicJwk = { kty: 'EC', crv: 'P-256', x, y } as const;
  const kid = jwkThumbprint(publicJwk);
  return {
    issuer,
    jwks: () => ({ keys: [{ ...publicJwk, kid, use: 'sig', alg: 'ES256' }] }),
    async mint({ namespace, serviceAccount, pod = `${serviceAccount}-0`, audience, ttlMs }) {
      checkName('namespace', namespace, /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/);
      checkName('service account', serviceAccount, /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/);
      checkName('pod', pod, /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/);
      if (!(ttlMs >= 1000)) throw new SignetError('INVALID_ARGUMENT', 'a token lives at least a second');
      // It takes a while to load, and a server that runs in development need not mint.
      const { SignJWT } = await import('jose');
      const now = Math.floor(options.clock.now() / 1000);
      const kubernetes = {
        namespace,
        pod: { name: pod, uid: uidOf('pod', namespace, pod) },
        serviceaccount: { name: serviceAccount, uid: uidOf('serviceaccount', namespace, serviceAccount) },
      };
      return new SignJWT({ 'kubernetes.io': kubernetes })
        .setProtectedHeader({ alg: 'ES256', kid })
        .setIssuer(issuer)
        .setSubject(`system:serviceaccount:${namespace}:${serviceAccount}`)
        .setAudience(typeof audience === 'string' ? [audience] : [...audience])
        .setIssuedAt(now)
        .setNotBefore(now)
        .setExpirationTime(now + Math.floor(ttlMs / 1000))
        .setJti(randomUUID())
        .sign(privateKey);
    },
  };
}

function readKey(pem: string): KeyObject {
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyDetails?.namedCurve === 'prime256v1') return key;
  } catch {
    // OpenSSL's message may tell of the key's form: of no use to anybody, so it is no cause.
  }
  throw new SignetError('INVALID_ARGUMENT', "the development issuer's key file holds no P-256 private key");
}

function checkName(what: string, name: string, pattern: RegExp): void {
  if (!pattern.test(name))
    throw new SignetError('INVALID_ARGUMENT', `the ${what}'s name has only a-z, 0-9, "-" and "." (a namespace no "."), as in Kubernetes`);
}

/** The same pod is the same instance in every run: a UUID of version 8 (RFC 9562 §5.8) made of the names. */
function uidOf(kind: string, namespace: string, name: string): string {
  const bytes = createHash('sha256').update(`${kind}/${namespace}/${name}`).digest().subarray(0, 16);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x80, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
