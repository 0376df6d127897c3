import type { SpiffeId } from '../spiffe/id.ts';
import type { Certificate } from '../x509/certificate.ts';

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
  /** The leaf as whoever built it knows it: of use where that is this process (`builtHere`), which then need not read it again. */
  readonly leaf?: Certificate;
}

/** What an intermediate below somebody else's CA is asked for with. */
export interface IntermediateRequest {
  /** PKCS#10 in DER by the intermediate's key, its one URI SAN the trust domain (SPIFFE X509-SVID §4.2). */
  readonly csr: Buffer;
  readonly spkiSha256: string;
  readonly commonName: string;
  /** In ms since the epoch; the upstream may give less, never more. */
  readonly notAfter: number;
}

export interface SignedIntermediate {
  /** DER: the new intermediate first, then those above it, no root. Path length 0 is the caller's to check. */
  readonly certificates: readonly [Buffer, ...Buffer[]];
}

export interface AuthorityCapabilities {
  /** Built and signed in this process from our own template: right by construction, not verified again per certificate. */
  readonly builtHere: boolean;
  /** notBefore and notAfter are taken as asked. */
  readonly exactLife: boolean;
  /** It certifies the names of the CSR and can add none: a request without the SPIFFE ID is of no use to it. */
  readonly namesFromCsr?: boolean;
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
   * One try. Throws AUTHORITY_UNAVAILABLE or AUTHORITY_THROTTLED with `retryAfterMs` (worth a retry), AUTHORITY_REFUSED or
   * AUTHORITY_MISCONFIGURED (not worth one). Settles within 100 ms of an abort.
   */
  sign(request: SigningRequest, signal: AbortSignal): Promise<SignedChain>;
  /**
   * A CA certificate for a key of ours, for authorities whose upstream does that: Signet then runs an intermediate of its
   * own below it. Throws like `sign`.
   */
  signIntermediate?(request: IntermediateRequest, signal: AbortSignal): Promise<SignedIntermediate>;
  /** The self-signed CA certificates (DER) that its leaves chain to. Never taken from a sign response. */
  anchors(signal: AbortSignal): Promise<readonly Buffer[]>;
  /** The earliest end of the CA certificates it signs under now: no leaf outlives it. */
  issuersEnd(): number;
  health(signal: AbortSignal): Promise<AuthorityHealth>;
  /** Called when its anchors or signing CA changed. Returns how to stop. */
  onChange(listener: () => void): () => void;
  close(): Promise<void>;
}
