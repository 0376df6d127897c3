import type { SpiffeId } from '../spiffe/id.ts';

/**
 * `certificate` is one that we issued, and stands for the proof that it was issued on; `external-certificate` is one of
 * a CA that the configuration names, and a proof of its own like a token.
 */
export type Authentication = 'token' | 'certificate' | 'external-certificate';

/** Who is calling, as proved. Nothing of it comes from what the caller says of itself, but for an instance taken from metadata. */
export interface Caller {
  /** The id of the configured issuer whose token (now, or at the last token authentication) made this identity. */
  readonly issuer: string;
  readonly subject: string;
  readonly spiffeId: SpiffeId;
  /** Which of the bearers of this identity; undefined where neither token nor client names one. */
  readonly instance: string | undefined;
  readonly authenticatedBy: Authentication;
  /** When the credential shown ends, in ms since the epoch. A stream never outlives it. */
  readonly credentialEnds: number;
  /** When a token or an external certificate last proved this identity, in ms since the epoch: bounds renewal by certificate. 0: none ever did. */
  readonly tokenSeenAt: number;
  /** Names the exact key material that proved it, so that a key taken out ends what it opened. Opaque. */
  readonly provedBy: string;
  /** The Kubernetes pod that the token shown is bound to. */
  readonly pod?: Pod | undefined;
}

export interface Pod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** Certificates, keys, bindings and the ledger belong to this pair. */
export interface Bearer {
  readonly spiffeId: SpiffeId;
  readonly instance: string;
}

/** A map key of the pair: an ID has no space, so no two pairs share one. */
export function bearerKey(bearer: Bearer): string {
  return `${bearer.spiffeId} ${bearer.instance}`;
}
