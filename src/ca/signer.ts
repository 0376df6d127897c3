import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { TbsSigner } from '../x509/issuing-ca.ts';
import type { AuthorityHealth } from './authority.ts';

/**
 * Our own CA's key, kept by somebody else: an HSM, a cloud's KMS, a Transit engine. It signs bytes and says nothing of
 * what they mean; what is signed, and for whom, is decided here.
 */
export interface Signer {
  readonly type: string;
  /** Where the key is, for logs and errors: a slot and label, a key's resource name. Never a credential. */
  readonly location: string;
  /** DER SubjectPublicKeyInfo, asked of the custodian when it was opened. */
  readonly spki: Buffer;
  readonly algorithm: TbsSigner['algorithm'];
  /**
   * One try: the signature over `tbs` as X.509 wants it (DER for ECDSA, PKCS#1 v1.5 for RSA). Throws
   * AUTHORITY_UNAVAILABLE or AUTHORITY_THROTTLED (worth a retry), AUTHORITY_REFUSED or AUTHORITY_MISCONFIGURED (the key is
   * gone, disabled or of another kind). Settles within 100 ms of an abort.
   */
  sign(tbs: Buffer, signal: AbortSignal): Promise<Buffer>;
  /** Whether the custodian would sign now, without signing. */
  health(signal: AbortSignal): Promise<AuthorityHealth>;
  close(): Promise<void>;
}

/** The kinds of CA keys that a custodian is asked to make. */
export const signerKeyKinds = ['ec-p256', 'ec-p384', 'rsa-3072'] as const;
export type SignerKeyKind = (typeof signerKeyKinds)[number];

/** What a custodian is given besides its settings. */
export interface SignerParts {
  /** Which setting asks, for messages: `ca.backends.corporate.signer`. */
  readonly setting: string;
  readonly clock: Clock;
  readonly log: Log;
  /** For settings that name a variable. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

export interface MadeKey<Settings> {
  readonly signer: Signer;
  /** By which the key is opened from now on: what was asked with, and what the custodian named itself. */
  readonly settings: Settings;
}

/** One kind of keeper of keys. Each has a folder under src/ca and a case in open-signer.ts. */
export interface Custodian<Settings> {
  /** Throws as `Signer.sign` does, or CONFIG_INVALID for a secret that can't be read. */
  open(settings: Settings, parts: SignerParts, signal: AbortSignal): Promise<Signer>;
  /**
   * A new key that can't be taken out, where the settings say; for `signet ca init`. AUTHORITY_REFUSED if there is one
   * already: a CA's key is never replaced by mistake.
   */
  createKey(settings: Settings, kind: SignerKeyKind, parts: SignerParts, signal: AbortSignal): Promise<MadeKey<Settings>>;
}
