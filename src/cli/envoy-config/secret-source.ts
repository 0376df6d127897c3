import type { EnvoySettings } from './settings.ts';
import { authority, nested, quote } from './yaml.ts';

/** Where Envoy asks for its secrets: written out once under an anchor, and named by alias from then on. */
export interface SecretSource {
  /** The YAML of a ConfigSource: in full the first time, `*signet` after that. */
  readonly next: () => string;
}

/**
 * Envoy opens a stream for each distinct (ConfigSource, secret name): two that differ by one byte are two streams and two
 * copies of the certificate. So one anchor serves every place.
 */
export function secretSource(settings: EnvoySettings): SecretSource {
  let written = false;
  return {
    next() {
      if (written) return '*signet';
      written = true;
      return `&signet\n  ${nested(configSource(settings), 2)}`;
    },
  };
}

function configSource(settings: EnvoySettings): string {
  return `resource_api_version: V3
# How long a listener waits for its first secrets before it opens without them (and then refuses every handshake).
initial_fetch_timeout: 15s
api_config_source:
  # GRPC is the state of the world, DELTA_GRPC incremental: Signet speaks both.
  api_type: ${settings.api === 'delta' ? 'DELTA_GRPC' : 'GRPC'}
  transport_api_version: V3
  # The node message is some 60 KB: say it once a stream.
  set_node_on_first_message_only: true
  grpc_services:
  - ${nested(grpcService(settings), 4)}
`;
}

function grpcService(settings: EnvoySettings): string {
  const { auth } = settings;
  switch (auth.kind) {
    case 'google-grpc-token':
      return googleGrpc(settings, auth.tokenFile);
    case 'agent':
      return localGrpc;
    case 'envoy-grpc-token':
    case 'client-certificate':
      return envoyGrpc;
  }
}

const localGrpc = `envoy_grpc:
  cluster_name: signet
  # The agent is on this host: asking often costs nothing, and it is found at once when it is back.
  retry_policy: { retry_back_off: { base_interval: 0.1s, max_interval: 0.5s } }
`;

const envoyGrpc = `envoy_grpc:
  cluster_name: signet
  # Envoy's own limit is 30 s: too long for somebody who waits for a certificate when Signet is back.
  retry_policy: { retry_back_off: { base_interval: 0.5s, max_interval: 4s } }
`;

function googleGrpc(settings: EnvoySettings, tokenFile: string): string {
  return `google_grpc:
  # Signet's certificate must name this host: gRPC checks it against the certificate's DNS names and IP addresses.
  target_uri: ${quote(authority(settings.server))}
  stat_prefix: signet
  channel_credentials: { ssl_credentials: { root_certs: { filename: ${quote(settings.serverCaFile)} } } }
  credentials_factory_name: envoy.grpc_credentials.file_based_metadata
  call_credentials:
  - from_plugin:
      name: envoy.grpc_credentials.file_based_metadata
      typed_config:
        "@type": type.googleapis.com/envoy.config.grpc_credential.v3.FileBasedMetadataConfig
        # The service-account token, read anew at each stream's start. The file must NOT end in a newline: it would become
        # part of the header, gRPC refuses such a header, and the stream ends before it ever reaches Signet.
        secret_data: { filename: ${quote(tokenFile)} }
        header_prefix: "Bearer "
  channel_args:
    args:
      # Notice a dead path: gRPC's default is never to ask.
      grpc.keepalive_time_ms: { int_value: 30000 }
      grpc.keepalive_timeout_ms: { int_value: 5000 }
      # Be back soon after Signet is. (Envoy's own back-off on top of it, up to 30 s, can't be set with google_grpc.)
      grpc.initial_reconnect_backoff_ms: { int_value: 500 }
      grpc.max_reconnect_backoff_ms: { int_value: 2000 }
`;
}
