import type { Custodian, MadeKey, Signer, SignerKeyKind, SignerParts } from './signer.ts';
import type { SignerSettings } from './signer-settings.ts';

/** A custodian with the settings that it is used by. */
interface Keeper {
  open(parts: SignerParts, signal: AbortSignal): Promise<Signer>;
  createKey(kind: SignerKeyKind, parts: SignerParts, signal: AbortSignal): Promise<MadeKey<SignerSettings>>;
}

/** A custodian's code, and its vendor's, is loaded only if it is used. */
async function keeperOf(settings: SignerSettings): Promise<Keeper> {
  switch (settings.type) {
    case 'pkcs11':
      return keeper((await import('./pkcs11/pkcs11-custodian.ts')).pkcs11, settings);
    case 'transit':
      return keeper((await import('./vault-transit/transit-custodian.ts')).transit, settings);
    case 'aws-kms':
      return keeper((await import('./aws-kms/aws-kms-signer.ts')).awsKms, settings);
    case 'gcp-kms':
      return keeper((await import('./gcp-kms/gcp-kms-signer.ts')).gcpKms, settings);
  }
}

function keeper<Settings extends SignerSettings>(custodian: Custodian<Settings>, settings: Settings): Keeper {
  return {
    open: (parts, signal) => custodian.open(settings, parts, signal),
    createKey: (kind, parts, signal) => custodian.createKey(settings, kind, parts, signal),
  };
}

/** The key that the settings name. Throws as Custodian.open does. */
export async function openSigner(settings: SignerSettings, parts: SignerParts, signal: AbortSignal): Promise<Signer> {
  return (await keeperOf(settings)).open(parts, signal);
}

/** A new key where the settings say, for `signet ca init`. Throws as Custodian.createKey does. */
export async function createSignerKey(
  settings: SignerSettings,
  kind: SignerKeyKind,
  parts: SignerParts,
  signal: AbortSignal,
): Promise<MadeKey<SignerSettings>> {
  return (await keeperOf(settings)).createKey(kind, parts, signal);
}
