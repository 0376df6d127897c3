import { appCluster, signetCluster, upstreamCluster } from './cluster.ts';
import { inboundListener, outboundListener } from './listener.ts';
import { certificateSecret, tokenSecret } from './secret-file.ts';
import { secretSource } from './secret-source.ts';
import type { EnvoyFiles, EnvoySettings } from './settings.ts';
import { nested, quote, socketAddress } from './yaml.ts';

/** A complete Envoy bootstrap that takes its identity and trust from Signet. Pure: the same settings give the same bytes. */
export function renderEnvoyFiles(settings: EnvoySettings): EnvoyFiles {
  const source = secretSource(settings);
  // In the order of the text, for the anchor is written where the source is first needed.
  const listeners = [
    ...(settings.inbound ? [inboundListener(settings.inbound, settings.trustDomain, source)] : []),
    ...settings.upstreams.map(outboundListener),
  ];
  const signet = signetCluster(settings);
  const clusters = [
    ...(settings.inbound?.app ? [appCluster(settings.inbound.app)] : []),
    ...settings.upstreams.map((upstream) => upstreamCluster(upstream, source)),
    ...(signet === undefined ? [] : [signet]),
  ];
  const bootstrap = `${header(settings)}node: { id: ${quote(settings.node.id)}, cluster: ${quote(settings.node.cluster)} }
admin: { address: ${socketAddress(settings.admin)} }
static_resources:
  listeners:${items(listeners)}
  clusters:${items(clusters)}
`;
  return { bootstrap, secret: secretFile(settings) };
}

function items(texts: readonly string[]): string {
  return texts.length === 0 ? ' []' : texts.map((text) => `\n  - ${nested(text, 4)}`).join('');
}

function secretFile({ auth }: EnvoySettings): EnvoyFiles['secret'] {
  switch (auth.kind) {
    case 'google-grpc-token':
    case 'agent':
      return undefined;
    case 'envoy-grpc-token':
      return { path: auth.tokenSecretFile, text: tokenSecret(auth.tokenFile) };
    case 'client-certificate':
      return { path: auth.certificateSecretFile, text: certificateSecret(auth.certificateDirectory) };
  }
}

function header({ auth, api }: EnvoySettings): string {
  const ways = {
    'google-grpc-token': 'google_grpc with a service-account token from a file',
    'envoy-grpc-token': 'envoy_grpc with a service-account token by the credential injector',
    'client-certificate': 'envoy_grpc with a client certificate of the trust domain',
    agent: "an agent's unix socket on this host",
  };
  const streams = api === 'delta' ? 'incremental (Delta)' : 'state of the world';
  return `# Envoy with its identity and trust from Signet: ${ways[auth.kind]}, ${streams}.
# ${auth.kind === 'agent' ? agentNote : keyNote}
`;
}

const keyNote =
  'Key mode csr: run `signet csr` on this host first, and see that Envoy can read the folder of keys; the key never leaves it.';
const agentNote =
  'Run `signet agent` on this host, as a user that Envoy shares a group with or is: the keys are made there and never leave it.';
