/**
 * Material that passed preflight. Only x509/chain.ts and x509/preflight.ts make these: what Envoy would reject, or take and then fail on,
 * has no representation further right.
 */
declare const checked: unique symbol;

export interface CheckedChain {
  readonly [checked]: 'chain';
  /** Leaf first, then intermediates, no root. */
  readonly certificates: readonly [Buffer, ...Buffer[]];
  /** Each of them in PEM. */
  readonly pems: readonly [string, ...string[]];
  /** Lower-case hex, no leading zeros stripped beyond DER's own. */
  readonly serial: string;
  readonly notBefore: number;
  readonly notAfter: number;
  /** Hex SHA-256 of the leaf's SubjectPublicKeyInfo. */
  readonly spkiSha256: string;
}

export interface CheckedIdentity {
  readonly [checked]: 'identity';
  readonly chain: CheckedChain;
  /** PKCS#8 PEM sent along (`server`), or the file on Envoy's host (`csr`). */
  readonly key: { readonly inline: string } | { readonly file: string };
}

/** At least one CA certificate, each once, sorted by their bytes: equal sets give equal bytes. */
export interface CheckedAnchors {
  readonly [checked]: 'anchors';
  readonly certificates: readonly [Buffer, ...Buffer[]];
  readonly pem: string;
}
