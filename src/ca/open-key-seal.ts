import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { SignetError } from '../base/errors.ts';
import type { CaState } from './ca-state.ts';
import { keySealFromKey, keySealFromPassphrase, scryptDefaults } from './key-seal.ts';
import type { KeySeal } from './key-seal.ts';
import { base64Bytes, encodeDocument, readDocument } from './state-document.ts';

export type KeySecret = { readonly key: string } | { readonly passphrase: string };

const stateName = 'ca/key-encryption';
const purpose = 'key-encryption check';
const known = Buffer.from('signet');

const check = base64Bytes(256);
const documentSchema = z.discriminatedUnion('kind', [
  z.strictObject({ format: z.literal(1), kind: z.literal('key'), check }),
  z.strictObject({
    format: z.literal(1),
    kind: z.literal('passphrase'),
    salt: base64Bytes(64),
    // Bounded: the document is read before anything proves that it is ours.
    cost: z
      .int()
      .min(2 ** 14)
      .max(2 ** 20),
    blockSize: z.int().min(1).max(32),
    parallelization: z.int().min(1).max(16),
    check,
  }),
]);
type SealDocument = z.infer<typeof documentSchema>;

/**
 * The seal for this store's CA keys. The first start stores how it is derived and a known text under it; later ones prove
 * with that text that they were given the same secret, before any key is touched. Throws KEY_UNSEALABLE or CONFIG_INVALID.
 */
export async function openKeySeal(options: { readonly state: CaState; readonly secret: KeySecret }): Promise<KeySeal> {
  const { state, secret } = options;
  const stored = await readDocument(state, stateName, documentSchema);
  if (stored) return proven(stored.value, secret);

  const made = 'key' in secret ? firstByKey(secret.key) : await firstByPassphrase(secret.passphrase);
  if (await state.compareAndSet(stateName, 0, encodeDocument(made.document))) return made.seal;
  // Another replica was first: its document counts.
  return openKeySeal(options);
}

interface Made {
  readonly seal: KeySeal;
  readonly document: SealDocument;
}

function firstByKey(key: string): Made {
  const seal = keySealFromKey(key);
  return { seal, document: { format: 1, kind: 'key', check: seal.seal(purpose, '', known) } };
}

async function firstByPassphrase(passphrase: string): Promise<Made> {
  const salt = randomBytes(16);
  const seal = await keySealFromPassphrase(passphrase, salt, scryptDefaults);
  return { seal, document: { format: 1, kind: 'passphrase', salt, ...scryptDefaults, check: seal.seal(purpose, '', known) } };
}

async function proven(document: SealDocument, secret: KeySecret): Promise<KeySeal> {
  let seal: KeySeal;
  if (document.kind === 'key') {
    if (!('key' in secret)) throw unsealable('its keys were encrypted with a key-encryption key, but a passphrase is configured');
    seal = keySealFromKey(secret.key);
  } else {
    if (!('passphrase' in secret)) throw unsealable('its keys were encrypted with a passphrase, but a key-encryption key is configured');
    seal = await keySealFromPassphrase(secret.passphrase, document.salt, document);
  }
  try {
    if (seal.open(purpose, '', document.check).equals(known)) return seal;
  } catch (error) {
    throw unsealable(
      document.kind === 'key' ? 'the key-encryption key is not the one that its keys were encrypted with' : 'the passphrase is wrong',
      error,
    );
  }
  throw unsealable('its check value is not one of Signet');
}

function unsealable(what: string, cause?: unknown): SignetError {
  return new SignetError('KEY_UNSEALABLE', `the CA keys in this store can't be decrypted: ${what}`, { cause });
}
