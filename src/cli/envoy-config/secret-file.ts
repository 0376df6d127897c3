import { dirname } from 'node:path';
import { quote } from './yaml.ts';

/** The file-SDS document that names the token for the credential injector. */
export function tokenSecret(tokenFile: string): string {
  return `# Names the service-account token for Envoy's credential injector.
# The token file must NOT end in a newline: Envoy before 1.40 sends nothing at all then, and logs nothing.
# Put a new token in place by renaming it over the old one (as the kubelet does): a rewrite in place isn't noticed.
resources:
- "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
  name: signet-token
  generic_secret:
    secret:
      filename: ${quote(tokenFile)}
      watched_directory: { path: ${quote(dirname(tokenFile))} }
`;
}

/** The file-SDS document that names the client certificate shown to Signet. */
export function certificateSecret(directory: string): string {
  return `# Names the certificate of the trust domain that Envoy shows to Signet instead of a token.
# Replace both files by one rename, so that they never mismatch, as the kubelet does in a mounted secret: tls.crt and tls.key are
# links to ..data/tls.crt and ..data/tls.key, and ..data is a link that is renamed to a folder with the new pair. Envoy watches
# this folder for that rename; a link in place of the folder itself would be followed once and never again.
resources:
- "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
  name: bootstrap
  tls_certificate:
    certificate_chain: { filename: ${quote(`${directory}/tls.crt`)} }
    private_key: { filename: ${quote(`${directory}/tls.key`)} }
    watched_directory: { path: ${quote(directory)} }
`;
}
