import { generateKeyPair } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { SignetError } from '../../base/errors.ts';
import { encryptedKeyPem } from '../../x509/encrypted-key.ts';
import type { SignerKeyKind } from '../signer.ts';

const shortestPassphrase = 8;
const generate = promisify(generateKeyPair);

/** A new key as the text of a file that only the passphrase opens. Throws CONFIG_INVALID for one of fewer than 8 characters. */
export async function newKeyFile(kind: SignerKeyKind, passphrase: string): Promise<string> {
  if (passphrase.length < shortestPassphrase)
    throw new SignetError('CONFIG_INVALID', `the passphrase must have at least ${String(shortestPassphrase)} characters`);
  return encryptedKeyPem(await makers[kind](), passphrase);
}

const makers: Readonly<Record<SignerKeyKind, () => Promise<KeyObject>>> = {
  'ec-p256': async () => (await generate('ec', { namedCurve: 'P-256' })).privateKey,
  'ec-p384': async () => (await generate('ec', { namedCurve: 'P-384' })).privateKey,
  'rsa-3072': async () => (await generate('rsa', { modulusLength: 3072 })).privateKey,
};
