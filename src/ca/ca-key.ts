import { createPrivateKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { z } from 'zod';
import { SignetError } from '../base/errors.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { spkiOf } from '../x509/keys.ts';
import type { KeyPair } from '../x509/keys.ts';
import type { KeySeal } from './key-seal.ts';
import { base64Bytes } from './state-document.ts';

/** A CA certificate (DER) and its private key (PKCS#8 DER), sealed. */
export interface SealedCa {
  readonly certificate: Buffer;
  readonly key: Buffer;
}

export const sealedCaSchema = z.strictObject({ certificate: base64Bytes(32 * 1024), key: base64Bytes(32 * 1024) });

export function sealCa(seal: KeySeal, purpose: string, certificate: Buffer, key: KeyPair): SealedCa {
  const plaintext = key.privateKey.export({ type: 'pkcs8', format: 'der' });
  const sealed = seal.seal(purpose, key.spkiSha256, plaintext);
  plaintext.fill(0);
  return { certificate, key: sealed };
}

/** Throws KEY_UNSEALABLE, or STORE_CORRUPT if the key is not the certificate's. */
export function openCa(seal: KeySeal, purpose: string, { certificate, key }: SealedCa): KeyObject {
  const { spki, spkiSha256 } = parseCertificate(certificate);
  const plaintext = seal.open(purpose, spkiSha256, key);
  const privateKey = createPrivateKey({ key: plaintext, format: 'der', type: 'pkcs8' });
  plaintext.fill(0);
  if (!spkiOf(privateKey).equals(spki))
    throw new SignetError('STORE_CORRUPT', `the stored key of ${purpose} is not the one in its certificate`);
  return privateKey;
}
