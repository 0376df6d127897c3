import type { Caller } from './caller.ts';

/** What a call showed of itself, already capped in size by the transport. */
export interface Credentials {
  /** The bearer token without its scheme. */
  readonly token: string | undefined;
  /** DER of the TLS peer's certificate, leaf first, only if TLS verified it against our own trust bundle. */
  readonly peerChain: readonly Buffer[];
  /** `x-signet-instance`: no authority of its own, unique within the identity only. */
  readonly instanceHint: string | undefined;
  /** `clusterid`, as Istio's clients send it: which of the issuers, if they have clusters. */
  readonly cluster: string | undefined;
  /** The audiences that this API accepts: `istio-ca` on Istio's service alone. */
  readonly audiences: readonly string[];
}

export interface Authenticator {
  /**
   * Throws UNAUTHENTICATED (opaque), TOKEN_EXPIRED (says when), IDENTITY_SOURCE_UNAVAILABLE, or INVALID_ARGUMENT for an odd hint.
   * A call with a token is judged by the token alone; a certificate counts only without one.
   *
   * The caller itself where nothing has to be waited for, which is nearly always: thousands of streams that open at once
   * do so without a promise or a deadline each.
   */
  authenticate(credentials: Credentials, signal: AbortSignal): Caller | Promise<Caller>;
  /** Whether what proved this caller would still prove it: credential unexpired, its key still published. */
  stillProved(caller: Caller): boolean;
  /** Called when keys or issuers changed, so that open streams are judged again. Returns how to stop. */
  onChange(listener: () => void): () => void;
}
