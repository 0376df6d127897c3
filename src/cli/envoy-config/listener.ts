import type { SecretSource } from './secret-source.ts';
import type { EnvoyInbound, EnvoyUpstream } from './settings.ts';
import { nested, quote, socketAddress } from './yaml.ts';

/** The mTLS listener before the local application. */
export function inboundListener(inbound: EnvoyInbound, trustDomain: string, source: SecretSource): string {
  return `name: inbound
address: ${socketAddress(inbound.listen)}
filter_chains:
- filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: inbound
      # The application learns who called from x-forwarded-client-cert; what a client sends under that name is dropped.
      forward_client_cert_details: SANITIZE_SET
      set_current_client_cert_details: { uri: true }
      route_config:
        virtual_hosts:
        - name: app
          domains: ["*"]
          routes:
          - match: { prefix: "/" }
            ${inbound.app ? 'route: { cluster: app }' : 'direct_response: { status: 200, body: { inline_string: "ok\\n" } }'}
      http_filters:
      - name: envoy.filters.http.router
        typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  transport_socket:
    name: envoy.transport_sockets.tls
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
      # Without this line a client may simply send no certificate.
      require_client_certificate: true
      common_tls_context:
        tls_params: { tls_minimum_protocol_version: TLSv1_2 }
        alpn_protocols: [${inbound.alpn.map(quote).join(', ')}]
        tls_certificate_sds_secret_configs:
        # \`default\` is this Envoy's own identity. In key mode \`csr\` what comes names the private key by its file on this
        # host; in key mode \`server\` it brings the key. Nothing here differs between the two.
        - name: default
          sds_config: ${nested(source.next(), 10)}
        combined_validation_context:
          default_validation_context:
            # Keep this matcher. It says who may call; and with it Envoy refuses a secret without a CA under the name
            # below, which it would otherwise take as "verify nobody".
            match_typed_subject_alt_names:
            ${nested(callers(inbound, trustDomain), 12)}
          validation_context_sds_secret_config:
            name: ROOTCA
            sds_config: ${source.next()}
`;
}

function callers(inbound: EnvoyInbound, trustDomain: string): string {
  if (inbound.callers.length > 0) return inbound.callers.map((id) => `- { san_type: URI, matcher: { exact: ${quote(id)} } }\n`).join('');
  // The slash matters: without it spiffe://example.org.evil would match spiffe://example.org.
  return `- { san_type: URI, matcher: { prefix: ${quote(`spiffe://${trustDomain}/`)} } }\n`;
}

/** Where the local application reaches a destination in clear. */
export function outboundListener(upstream: EnvoyUpstream): string {
  return `name: ${quote(`outbound-${upstream.name}`)}
address: ${socketAddress(upstream.listen)}
filter_chains:
- filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: ${quote(`outbound-${upstream.name}`)}
      route_config:
        virtual_hosts:
        - name: upstream
          domains: ["*"]
          routes:
          - match: { prefix: "/" }
            route: { cluster: ${quote(upstream.name)} }
      http_filters:
      - name: envoy.filters.http.router
        typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
`;
}
