import type { SecretSource } from './secret-source.ts';
import { isAtLeast } from './settings.ts';
import type { EnvoyAddress, EnvoySettings, EnvoyUpstream } from './settings.ts';
import { isIpAddress, nested, quote, socketAddress } from './yaml.ts';

const httpOptions = `envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
  "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
`;

function endpoint(name: string, address: EnvoyAddress): string {
  return `name: ${quote(name)}
type: ${isIpAddress(address.host) ? 'STATIC' : 'STRICT_DNS'}
connect_timeout: 5s
load_assignment:
  cluster_name: ${quote(name)}
  endpoints: [{ lb_endpoints: [{ endpoint: { address: ${socketAddress(address)} } }] }]
`;
}

/** The local application, in clear. */
export function appCluster(app: EnvoyAddress): string {
  return endpoint('app', app);
}

/** A destination by mTLS. */
export function upstreamCluster(upstream: EnvoyUpstream, source: SecretSource): string {
  const once = upstream.connectionPerRequest;
  const protocol = upstream.protocol === 'h2' ? 'http2_protocol_options' : 'http_protocol_options';
  return `${endpoint(upstream.name, upstream.address)}typed_extension_protocol_options:
  ${nested(httpOptions, 2)}
    explicit_http_config: { ${protocol}: {} }${once ? '\n    common_http_protocol_options: { max_requests_per_connection: 1 }' : ''}
transport_socket:
  name: envoy.transport_sockets.tls
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext${once ? '\n    max_session_keys: 0' : ''}
    common_tls_context:
      tls_params: { tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3 }
      alpn_protocols: [${quote(upstream.protocol)}]
      tls_certificate_sds_secret_configs:
      - name: default
        sds_config: ${nested(source.next(), 8)}
      combined_validation_context:
        default_validation_context:
          # Exactly this identity must answer. Matchers are alternatives: a wider one beside it would undo it.
          match_typed_subject_alt_names:
          - { san_type: URI, matcher: { exact: ${quote(upstream.peer)} } }
        validation_context_sds_secret_config:
          name: ROOTCA
          sds_config: ${source.next()}
`;
}

/** Signet itself, for envoy_grpc; undefined for google_grpc, which needs no cluster. */
export function signetCluster(settings: EnvoySettings): string | undefined {
  const { auth } = settings;
  if (auth.kind === 'google-grpc-token') return undefined;
  if (auth.kind === 'agent') return agentCluster(auth.socket);
  const injector = auth.kind === 'envoy-grpc-token' ? credentialInjector(auth.tokenSecretFile, settings.envoyVersion) : '';
  const certificate = auth.kind === 'client-certificate' ? clientCertificate(auth.certificateSecretFile) : '';
  return `${endpoint('signet', settings.server)}typed_extension_protocol_options:
  ${nested(httpOptions, 2)}
    # The pings notice a dead path; without them a stream can hang on a connection that is long gone.
    explicit_http_config: { http2_protocol_options: { connection_keepalive: { interval: 30s, timeout: 5s } } }
    ${nested(injector, 4)}
transport_socket:
  name: envoy.transport_sockets.tls
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
    ${isIpAddress(settings.server.host) ? '# No SNI: the server is reached by its address.' : `sni: ${quote(settings.server.host)}`}
    common_tls_context:
      tls_params: { tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3 }
      ${nested(certificate, 6)}
      validation_context:
        trusted_ca: { filename: ${quote(settings.serverCaFile)} }
        # A CA alone doesn't say whose certificate it is. This is Signet's own name, which no workload can be given.
        match_typed_subject_alt_names:
        - { san_type: URI, matcher: { exact: ${quote(`spiffe://${settings.trustDomain}/signet/server`)} } }
`.replaceAll(/\n +(?=\n)/g, '');
}

/** The agent on this host. No TLS: the socket's folder decides who may speak to it, and nothing leaves the host. */
function agentCluster(socket: string): string {
  return `name: signet
type: STATIC
connect_timeout: 1s
load_assignment:
  cluster_name: signet
  endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: ${quote(socket)} } } } }] }]
typed_extension_protocol_options:
  ${nested(httpOptions, 2)}
    explicit_http_config: { http2_protocol_options: { connection_keepalive: { interval: 30s, timeout: 5s } } }
`;
}

function credentialInjector(secretFile: string, version: string | undefined): string {
  const prefix = isAtLeast(version, 1, 37)
    ? 'header_value_prefix: "Bearer "'
    : '# This Envoy knows no header_value_prefix (1.37 brought it), so the token goes without its scheme; Signet takes that too.';
  return `http_filters:
# The secret that holds the token is a file that Envoy watches, so a new token needs no restart.
- name: envoy.filters.http.credential_injector
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector
    overwrite: true
    credential:
      name: envoy.http.injected_credentials.generic
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic
        header: authorization
        ${prefix}
        credential:
          name: signet-token
          sds_config: { path_config_source: { path: ${quote(secretFile)} } }
- name: envoy.filters.http.upstream_codec
  typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec }
`;
}

function clientCertificate(secretFile: string): string {
  return `# A new certificate is shown by the next connection only; Signet ends connections after an hour at most.
tls_certificate_sds_secret_configs:
- name: bootstrap
  sds_config: { path_config_source: { path: ${quote(secretFile)} } }
`;
}
