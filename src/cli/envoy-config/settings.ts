/** How Envoy proves itself to Signet. */
export type EnvoyAuth =
  /** google_grpc with the token in a file that is read anew at each stream's start. */
  | { readonly kind: 'google-grpc-token'; readonly tokenFile: string }
  /** envoy_grpc with the credential injector; `tokenSecretFile` is where the file-SDS document that names the token goes. */
  | { readonly kind: 'envoy-grpc-token'; readonly tokenFile: string; readonly tokenSecretFile: string }
  /** envoy_grpc with a client certificate of the trust domain: `tls.crt` and `tls.key` in `certificateDirectory`. */
  | { readonly kind: 'client-certificate'; readonly certificateDirectory: string; readonly certificateSecretFile: string }
  /** Not at all: whoever can open the socket of an agent on the same host is the workload. */
  | { readonly kind: 'agent'; readonly socket: string };

/** State of the world, or incremental. */
export type EnvoyApi = 'sotw' | 'delta';

export interface EnvoyAddress {
  readonly host: string;
  readonly port: number;
}

/** The mTLS door of the local application. */
export interface EnvoyInbound {
  readonly listen: EnvoyAddress;
  /** Where the application listens, in clear; without it Envoy itself answers 200. */
  readonly app: EnvoyAddress | undefined;
  /** SPIFFE IDs that may call; empty: everybody of the trust domain. */
  readonly callers: readonly string[];
  /** What may be spoken, preferred first. */
  readonly alpn: readonly ('h2' | 'http/1.1')[];
}

/** A destination that the local application reaches in clear on `listen`, and Envoy by mTLS at `address`. */
export interface EnvoyUpstream {
  readonly name: string;
  readonly listen: EnvoyAddress;
  readonly address: EnvoyAddress;
  /** Exactly this SPIFFE ID must answer there. */
  readonly peer: string;
  readonly protocol: 'h2' | 'http/1.1';
  /** A new connection and a full handshake for each request: for demonstrations and tests, not for production. */
  readonly connectionPerRequest: boolean;
}

export interface EnvoySettings {
  /** For logs and the ledger only: Signet never believes a node's word about who it is. */
  readonly node: { readonly id: string; readonly cluster: string };
  readonly trustDomain: string;
  readonly auth: EnvoyAuth;
  readonly api: EnvoyApi;
  /** Signet's gRPC address as Envoy reaches it; of no use with an agent. With google_grpc its serving certificate must name this host. */
  readonly server: EnvoyAddress;
  /** PEM file with the anchors of Signet's serving certificate: `server-ca.pem` of its data folder. Of no use with an agent. */
  readonly serverCaFile: string;
  readonly admin: EnvoyAddress;
  readonly inbound: EnvoyInbound | undefined;
  readonly upstreams: readonly EnvoyUpstream[];
  /** `major.minor`, of the Envoy that will read this; the newest when undefined. */
  readonly envoyVersion: string | undefined;
}

/** A rendered configuration: the bootstrap, and the file-SDS document that some ways of authenticating need beside it. */
export interface EnvoyFiles {
  readonly bootstrap: string;
  readonly secret: { readonly path: string; readonly text: string } | undefined;
}

/** Whether the Envoy is at least `major.minor`; an unknown version counts as the newest. */
export function isAtLeast(version: string | undefined, major: number, minor: number): boolean {
  const match = /^v?(\d+)\.(\d+)/.exec(version ?? '');
  if (!match) return true;
  const [have, wanted] = [Number(match[1]) * 10_000 + Number(match[2]), major * 10_000 + minor];
  return have >= wanted;
}
