import { createCipheriv, randomBytes, scrypt } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { octetString, oid, sequence, unsignedInteger } from './der-writer.ts';
import { encryptionOid } from './oids.ts';
import { pemEncode } from './pem.ts';

/**
 * As costly as OWASP wants scrypt at least, in the 16 MiB that OpenSSL, ours included, grants a key that it reads (its
 * limit is 32 MiB): the usual 128 MiB could be written, but by nobody read.
 */
const cost = { N: 2 ** 14, r: 8, p: 5 };

/** PKCS#8 in PEM under a passphrase: PBES2 (RFC 8018 §6.2) with scrypt (RFC 7914 §7) and AES-256-CBC. Takes a moment, by design. */
export async function encryptedKeyPem(key: KeyObject, passphrase: string): Promise<string> {
  const [salt, iv] = [randomBytes(16), randomBytes(16)];
  const secret = await new Promise<Buffer>((resolve, reject) => {
    scrypt(Buffer.from(passphrase), salt, 32, cost, (error, derived) => {
      if (error) reject(error);
      else resolve(derived);
    });
  });
  const plaintext = key.export({ type: 'pkcs8', format: 'der' });
  const cipher = createCipheriv('aes-256-cbc', secret, iv);
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  plaintext.fill(0);
  secret.fill(0);
  const derivation = sequence(
    oid(encryptionOid.scrypt),
    sequence(octetString(salt), ...[cost.N, cost.r, cost.p, 32].map((value) => unsignedInteger(Buffer.of(value >> 16, value >> 8, value)))),
  );
  const encryption = sequence(oid(encryptionOid.aes256Cbc), octetString(iv));
  const scheme = sequence(oid(encryptionOid.pbes2), sequence(derivation, encryption));
  return pemEncode('ENCRYPTED PRIVATE KEY', sequence(scheme, octetString(ciphertext)));
}
