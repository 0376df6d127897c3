import type { Metadata } from '@grpc/grpc-js';
import type { Shown } from './secret-source.ts';

/** What of a gRPC call names its caller. grpc-js calls, unary and streaming, have this shape. */
export interface IdentifiedCall {
  readonly metadata: Metadata;
  getAuthContext(): { readonly sslPeerCertificate?: { readonly raw: Buffer } | undefined };
}

export function shownBy(call: IdentifiedCall): Shown {
  return {
    header(key) {
      const values = call.metadata.get(key);
      return values.length > 1 ? values.join(', ') : values[0]?.toString();
    },
    peerChain: () => peerChainOf(call),
  };
}

/**
 * The peer's certificate (DER) if TLS verified it against the workload trust bundle when the connection began: grpc-js
 * shows none that Node calls unauthorized, and resumption is off, so that no connection inherits another's. It is the leaf
 * alone: more is not shown to a server. Whether it is still good is for identity to say.
 */
export function peerChainOf(call: Pick<IdentifiedCall, 'getAuthContext'>): readonly Buffer[] {
  const certificate = call.getAuthContext().sslPeerCertificate;
  return certificate ? [certificate.raw] : [];
}
