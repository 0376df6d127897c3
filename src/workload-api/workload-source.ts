/** One X.509 identity of the workload, with the key that goes with it. */
export interface X509Svid {
  readonly spiffeId: string;
  /** DER, leaf first, then intermediates; no root. */
  readonly chain: readonly [Buffer, ...Buffer[]];
  /** Unencrypted PKCS#8, DER. */
  readonly keyPkcs8: Buffer;
  /** What the operator calls this identity, for workloads that have several; empty where nothing needs telling apart. */
  readonly hint: string;
}

/** All of what the X.509 profile hands out at one moment. An identical object is an identical state: encoders cache by it. */
export interface X509State {
  /** The first is the default (SPIFFE Workload API §5.3). */
  readonly svids: readonly [X509Svid, ...X509Svid[]];
  /** CA certificates (DER) by trust domain, `spiffe://td`: its own, and every federated one. */
  readonly bundles: ReadonlyMap<string, readonly Buffer[]>;
  /** DER. */
  readonly crls: readonly Buffer[];
}

export interface JwtSvid {
  readonly spiffeId: string;
  readonly token: string;
  readonly hint: string;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

/**
 * What the Workload API needs of whoever holds a workload's identities: the agent, for the workload of one socket.
 * `pending`: it is entitled to something that isn't there yet. `denied`: it has no identity, and asking again soon won't help.
 */
export interface WorkloadSource {
  x509(): X509State | 'pending' | 'denied';
  /** JWK sets (JSON) by trust domain, `spiffe://td`: its own, and every federated one. */
  jwtBundles(): ReadonlyMap<string, string> | 'pending' | 'denied';
  /** The listener is called after each change of `x509` or `jwtBundles`. Returns how to stop. */
  subscribe(listener: () => void): () => void;
  /**
   * One JWT-SVID for each identity of the workload, or for the one named, the default first. Throws a SignetError:
   * PERMISSION_DENIED for an identity that isn't the workload's.
   */
  fetchJwtSvids(
    request: { readonly audiences: readonly string[]; readonly spiffeId: string | undefined },
    signal: AbortSignal,
  ): Promise<readonly JwtSvid[]>;
}
