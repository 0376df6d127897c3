import type { SpiffeId } from '../spiffe/id.ts';

/**
 * Somebody's CA: a request goes in, a chain comes out. The issuing pipeline decides everything else: who may ask,
 * for what names, for how long; and it verifies what comes back.
 */
export interface SigningRequest {
  readonly spiffeId: SpiffeId;
  /** DER of the subject's public key, already judged strong enough. */
  readonly spki: Buffer;
  readonly spkiSha256: string;
  /** A PKCS#10 request by that key, its signature already verified. Made on demand: not every CA needs one. */
  readonly csr: () => Buffer;
  /** Whole seconds, in ms since the epoch. The authority may give less, never more. */
  readonly notBefore: number;
  readonly notAfter: number;
}

export interface SignedChain {
  /** DER, leaf first, then intermediates, no root. */
  readonly certificates: readonly [Buffer, ...Buffer[]];
  /** Names the CA key that signed the leaf: hex of its subject key identifier. */
  readonly issuerKeyId: string;
}

export interface AuthorityCapabilities {
  /** Built and signed in this process from our own template: right by construction, not verified again per certificate. */
  readonly builtHere: boolean;
  /** notBefore and notAfter are taken as asked. */
  readonly exactLife: boolean;
}

export interface AuthorityHealth {
  readonly canSign: boolean;
  /** For the operator; no secrets. */
  readonly detail: string;
}

export interface Authority {
  readonly name: string;
  readonly type: string;
  readonly capabilities: AuthorityCapabilities;
  /**
   * Throws AUTHORITY_UNAVAILABLE (worth a retry), AUTHORITY_REFUSED or AUTHORITY_MISCONFIGURED (not worth one).
   * Settles within 100 ms of an abort.
   */
  sign(request: SigningRequest, signal: AbortSignal): Promise<SignedChain>;
  /** The self-signed CA certificates (DER) that its leaves chain to. Never taken from a sign response. */
  anchors(signal: AbortSignal): Promise<readonly Buffer[]>;
  /** The earliest end of the CA certificates it signs under now: no leaf outlives it. */
  issuersEnd(): number;
  health(signal: AbortSignal): Promise<AuthorityHealth>;
  /** Called when its anchors or signing CA changed. Returns how to stop. */
  onChange(listener: () => void): () => void;
  close(): Promise<void>;
}
