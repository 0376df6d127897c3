import { createHash, randomUUID } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { compactDecrypt, flattenedDecrypt, importJWK, SignJWT } from 'jose';
import type { CryptoKey, FlattenedJWE, JWTHeaderParameters } from 'jose';
import { z } from 'zod';
import { SignetError } from '../../base/errors.ts';
import { readSecret } from '../../base/secret-file.ts';
import type { SpiffeId } from '../../spiffe/id.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import { spkiOf, importPrivateKey } from '../../x509/keys.ts';
import { certificatesFromPem } from '../../x509/pem.ts';

/** What a provisioner of step-ca believes. */
export interface ProvisionerSettings {
  readonly name: string;
  readonly url: string;
  readonly provisioner: string;
  readonly keyFile: string;
  readonly passphraseFile?: string | undefined;
  readonly certificateFile?: string | undefined;
}

/** Signs the one-time tokens (step's "OTT") by which a provisioner allows one certificate each. */
export interface ProvisionerKey {
  /** Names the key within its provisioner; undefined for X5C. */
  readonly keyId: string | undefined;
  /** No certificate that it allows may begin or end outside of these, in ms since the epoch: of an X5C certificate, its own. */
  readonly notBefore: number;
  readonly notAfter: number;
  token(request: { readonly spiffeId: SpiffeId; readonly csr: Buffer; readonly now: number }): Promise<string>;
}

const tokenLifeSeconds = 300;
/** Clocks differ. */
const backdateSeconds = 30;
/** RFC 5280 appendix A.1, ub-common-name: step-ca puts the token's subject there if the request has none of its own. */
const longestCommonName = 64;
/** What `step` writes today is 600,000. */
const mostIterations = 2_000_000;
const certificateLimit = 64 * 1024;

/** Reads the key, and the X5C certificate if there is one. Throws AUTHORITY_MISCONFIGURED or KEY_UNSEALABLE, with nothing of the key in it. */
export async function readProvisionerKey(settings: ProvisionerSettings): Promise<ProvisionerKey> {
  const { name, certificateFile, keyFile, provisioner } = settings;
  const setting = `ca.backends.${name}`;
  const text = await read(`${setting}.keyFile`, keyFile);
  const passphrase = settings.passphraseFile === undefined ? undefined : await read(`${setting}.passphraseFile`, settings.passphraseFile);
  const audience = `${settings.url}/1.0/sign`;
  if (certificateFile !== undefined) {
    const { key, x5c, life } = await certifiedKey(setting, certificateFile, text, passphrase);
    // The fragment picks the provisioner: X5C tokens have no key id.
    return keyOf({ header: { alg: algorithmOf(key), x5c }, key, provisioner, audience: `${audience}#x5c/${provisioner}`, ...life });
  }
  const jwk = await privateJwk(`${setting}.keyFile`, text, passphrase);
  const { kid, alg } = jwk;
  const key = await importJWK(jwk, alg).catch((error: unknown) => {
    throw misconfigured(`${setting}.keyFile: it holds no private key that step-ca knows`, error);
  });
  if (key instanceof Uint8Array) throw misconfigured(`${setting}.keyFile: it holds a symmetric key`);
  return keyOf({ header: { alg, kid }, key, provisioner, audience, notBefore: -Infinity, notAfter: Infinity });
}

interface KeyParts {
  readonly header: JWTHeaderParameters;
  readonly key: CryptoKey | KeyObject;
  readonly provisioner: string;
  readonly audience: string;
  readonly notBefore: number;
  readonly notAfter: number;
}

function keyOf({ header, key, provisioner, audience, notBefore, notAfter }: KeyParts): ProvisionerKey {
  return {
    keyId: header.kid,
    notBefore,
    notAfter,
    token({ spiffeId, csr, now }) {
      const at = Math.floor(now / 1000);
      // `cnf` ties the token to this very request: who gets hold of it can't use it for a key of his own.
      const cnf = { 'x5rt#S256': createHash('sha256').update(csr).digest('base64url') };
      return new SignJWT({ sans: [spiffeId], cnf })
        .setProtectedHeader(header)
        .setIssuer(provisioner)
        .setSubject(spiffeId.length <= longestCommonName ? spiffeId : 'spiffe workload')
        .setAudience(audience)
        .setJti(randomUUID())
        .setIssuedAt(at)
        .setNotBefore(at - backdateSeconds)
        .setExpirationTime(at + tokenLifeSeconds)
        .sign(key);
    },
  };
}

const jwkSchema = z.looseObject({
  kty: z.string(),
  kid: z.string().min(1).max(256),
  alg: z.enum(['ES256', 'ES384', 'ES512', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'EdDSA']),
  d: z.string().min(1),
});
const jweSchema = z.object({
  protected: z.string(),
  encrypted_key: z.string(),
  iv: z.string(),
  ciphertext: z.string(),
  tag: z.string(),
});

async function privateJwk(setting: string, text: string, passphrase: string | undefined): Promise<z.output<typeof jwkSchema>> {
  const trimmed = text.trim();
  const json = parseJson(trimmed);
  const encrypted = jweSchema.safeParse(json);
  const compact = /^[\w-]+(?:\.[\w-]+){4}$/.test(trimmed);
  if (!encrypted.success && !compact) return checkedJwk(setting, json);
  if (passphrase === undefined)
    throw new SignetError('KEY_UNSEALABLE', `${setting}: the key is encrypted, and no passphraseFile is configured for it`);
  return checkedJwk(setting, parseJson(await decrypted(setting, encrypted.data ?? trimmed, passphrase)));
}

async function decrypted(setting: string, jwe: FlattenedJWE | string, passphrase: string): Promise<string> {
  const options = {
    keyManagementAlgorithms: ['PBES2-HS256+A128KW', 'PBES2-HS384+A192KW', 'PBES2-HS512+A256KW'],
    maxPBES2Count: mostIterations,
  };
  const key = new TextEncoder().encode(passphrase);
  try {
    const { plaintext } = typeof jwe === 'string' ? await compactDecrypt(jwe, key, options) : await flattenedDecrypt(jwe, key, options);
    return new TextDecoder().decode(plaintext);
  } catch (error) {
    throw new SignetError('KEY_UNSEALABLE', `${setting}: the key can't be decrypted: the passphrase is wrong, or it is no JWK`, {
      cause: error,
    });
  }
}

function checkedJwk(setting: string, json: unknown): z.output<typeof jwkSchema> {
  const jwk = jwkSchema.safeParse(json);
  if (jwk.success) return jwk.data;
  throw misconfigured(`${setting}: it must hold a private JWK with kty, kid, alg and d, as \`step crypto jwk create\` writes it`);
}

async function certifiedKey(setting: string, certificateFile: string, keyPem: string, passphrase: string | undefined) {
  const pem = await read(`${setting}.certificateFile`, certificateFile);
  if (pem.length > certificateLimit) throw misconfigured(`${setting}.certificateFile: it is too long`);
  try {
    const chain = certificatesFromPem(pem);
    const key = importPrivateKey(keyPem, passphrase);
    const [leaf] = chain.map(parseCertificate);
    if (!leaf || !spkiOf(key).equals(leaf.spki)) throw misconfigured(`${setting}.keyFile: it is not the key of ${certificateFile}`);
    const life = {
      notBefore: Math.max(...chain.map((der) => parseCertificate(der).notBefore)),
      notAfter: Math.min(...chain.map((der) => parseCertificate(der).notAfter)),
    };
    return { key, x5c: chain.map((der) => der.toString('base64')), life };
  } catch (error) {
    const { code, message } = SignetError.from(error);
    throw code === 'AUTHORITY_MISCONFIGURED' ? error : misconfigured(`${setting}: certificateFile or keyFile: ${message}`, error);
  }
}

function algorithmOf(key: KeyObject): string {
  if (key.asymmetricKeyType === 'rsa') return 'RS256';
  if (key.asymmetricKeyType === 'ed25519') return 'EdDSA';
  const byCurve: Readonly<Record<string, string>> = { prime256v1: 'ES256', secp384r1: 'ES384', secp521r1: 'ES512' };
  const algorithm = byCurve[key.asymmetricKeyDetails?.namedCurve ?? ''];
  if (algorithm === undefined) throw misconfigured('the key of an X5C provisioner must be RSA, Ed25519, P-256, P-384 or P-521');
  return algorithm;
}

async function read(setting: string, file: string): Promise<string> {
  return readSecret(setting, file).catch((error: unknown) => {
    throw misconfigured(SignetError.from(error).message, error);
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function misconfigured(message: string, cause?: unknown): SignetError {
  return new SignetError('AUTHORITY_MISCONFIGURED', message, { cause });
}
