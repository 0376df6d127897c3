import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import { SignetError } from '../base/errors.ts';

/** Encrypts CA keys at rest. What was sealed for one purpose and key can't be passed off as another's. */
export interface KeySeal {
  seal(purpose: string, keyId: string, plaintext: Buffer): Buffer;
  /** Throws KEY_UNSEALABLE. */
  open(purpose: string, keyId: string, sealed: Buffer): Buffer;
}

/** How a passphrase becomes a key (RFC 7914); kept with what it sealed, so that the defaults may grow. */
export interface ScryptParameters {
  readonly cost: number;
  readonly blockSize: number;
  readonly parallelization: number;
}

/** 128 MiB and about half a second, once per start: OWASP's advice for scrypt. */
export const scryptDefaults: ScryptParameters = { cost: 2 ** 17, blockSize: 8, parallelization: 1 };

const version = 1;
const nonceBytes = 12;
const tagBytes = 16;
const shortestPassphrase = 8;

/** 32 new random bytes in base64: a key-encryption key. */
export function newKeyEncryptionKey(): string {
  return randomBytes(32).toString('base64');
}

/** `base64` holds exactly 32 bytes; white space around it is ignored, as files end in newlines. Throws CONFIG_INVALID. */
export function keySealFromKey(base64: string): KeySeal {
  const text = base64.trim();
  const key = Buffer.from(text, 'base64');
  // Buffer.from skips what isn't base64; encoding again shows whether anything was.
  if (key.length !== 32 || key.toString('base64') !== text) {
    throw new SignetError('CONFIG_INVALID', 'the key-encryption key must be 32 random bytes in base64: openssl rand -base64 32');
  }
  return aesGcm(key);
}

/** Throws CONFIG_INVALID for a passphrase of fewer than 8 characters. */
export async function keySealFromPassphrase(
  passphrase: string,
  salt: Buffer,
  { cost, blockSize, parallelization }: ScryptParameters = scryptDefaults,
): Promise<KeySeal> {
  if (passphrase.length < shortestPassphrase) {
    throw new SignetError('CONFIG_INVALID', `the passphrase must have at least ${String(shortestPassphrase)} characters`);
  }
  const limits = { N: cost, r: blockSize, p: parallelization, maxmem: 256 * cost * blockSize };
  const key = await new Promise<Buffer>((resolve, reject) => {
    // The same passphrase typed on two keyboards may differ in its code points; NFKC is what RFC 8265 settles on.
    scrypt(passphrase.normalize('NFKC'), salt, 32, limits, (error, derived) => {
      if (error) reject(error);
      else resolve(derived);
    });
  });
  return aesGcm(key);
}

/** Version, nonce, ciphertext, tag. A random nonce is safe for far more keys than a CA ever has (NIST SP 800-38D §8.3). */
function aesGcm(key: Buffer): KeySeal {
  return {
    seal(purpose, keyId, plaintext) {
      const nonce = randomBytes(nonceBytes);
      const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes }).setAAD(context(purpose, keyId));
      return Buffer.concat([Buffer.of(version), nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
    },
    open(purpose, keyId, sealed) {
      if (sealed.length < 1 + nonceBytes + tagBytes || sealed[0] !== version) throw unsealable(purpose);
      const nonce = sealed.subarray(1, 1 + nonceBytes);
      const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes })
        .setAAD(context(purpose, keyId))
        .setAuthTag(sealed.subarray(-tagBytes));
      try {
        return Buffer.concat([decipher.update(sealed.subarray(1 + nonceBytes, -tagBytes)), decipher.final()]);
      } catch (error) {
        throw unsealable(purpose, error);
      }
    },
  };
}

/** Each part with its length before it: no two pairs of purpose and key id give the same bytes. */
function context(purpose: string, keyId: string): Buffer {
  const parts = ['signet-key-seal', purpose, keyId].map((part) => Buffer.from(part));
  return Buffer.concat(
    parts.flatMap((part) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(part.length);
      return [length, part];
    }),
  );
}

function unsealable(purpose: string, cause?: unknown): SignetError {
  return new SignetError(
    'KEY_UNSEALABLE',
    `the key of ${purpose} can't be decrypted: the key-encryption key is another one, or the data is damaged`,
    {
      cause,
    },
  );
}
