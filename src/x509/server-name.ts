import { checkServerIdentity } from 'node:tls';
import type { PeerCertificate } from 'node:tls';
import { parseCertificate } from './certificate.ts';

/**
 * Whether a verified certificate is the server's own: a CA alone doesn't say so. For TLS to call: gives the error instead
 * of throwing it.
 */
export function serverNameCheck(name: string): (host: string, certificate: PeerCertificate) => Error | undefined {
  if (!name.startsWith('spiffe://')) return (_host, certificate) => checkServerIdentity(name, certificate);
  return (_host, certificate) => {
    try {
      if (parseCertificate(certificate.raw).uris.includes(name)) return undefined;
      return new Error(`the server's certificate does not have the name ${name}`);
    } catch {
      return new Error("the server's certificate can't be read");
    }
  };
}
