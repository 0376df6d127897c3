import { parseCertificate } from '../../src/x509/certificate.ts';
import type { Certificate } from '../../src/x509/certificate.ts';
import { certificatesFromPem } from '../../src/x509/pem.ts';
import type { DataSource, Received, ReceivedSecret } from './raw-sds-client.ts';

/** What a TLS certificate in a response says. */
export interface ReceivedIdentity {
  readonly name: string;
  readonly leaf: Certificate;
  /** The private key as PEM, where it came along. */
  readonly key: string | undefined;
  /** Or where it is on Envoy's host. */
  readonly keyFile: string | undefined;
}

function contentOf(source: DataSource): string {
  return source.inline_string ?? source.inline_bytes?.toString() ?? '';
}

export function identityIn(received: Received, name = 'default'): ReceivedIdentity {
  const secret: ReceivedSecret | undefined = received.secrets.find((one) => one.name === name);
  if (!secret?.tls_certificate) throw new Error(`no certificate named ${name} among ${received.secrets.map((one) => one.name).join(', ')}`);
  const { certificate_chain, private_key } = secret.tls_certificate;
  const [der] = certificatesFromPem(contentOf(certificate_chain));
  if (!der) throw new Error('an empty chain');
  const inline = contentOf(private_key);
  return { name, leaf: parseCertificate(der), key: inline === '' ? undefined : inline, keyFile: private_key.filename };
}

export function anchorsIn(received: Received, name = 'ROOTCA'): string {
  const source = received.secrets.find((one) => one.name === name)?.validation_context?.trusted_ca;
  if (!source) throw new Error(`no validation context named ${name}`);
  return contentOf(source);
}
