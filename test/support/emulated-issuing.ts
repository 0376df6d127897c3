import { encodeName } from '../../src/x509/distinguished-name.ts';
import {
  authorityKeyIdExtension,
  basicConstraintsExtension,
  extendedKeyUsageExtension,
  keyUsageExtension,
  publicKeyOctets,
  subjectAltNameExtension,
  subjectKeyId,
  subjectKeyIdExtension,
} from '../../src/x509/extensions.ts';
import { signCertificate } from '../../src/x509/certificate-builder.ts';
import { encodeUri } from '../../src/x509/general-names.ts';
import { issuerFacts } from '../../src/x509/issuing-ca.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import type { TestCa } from './forge.ts';

/** What the emulation of a cloud's CA was asked to certify. */
export interface EmulatedLeaf {
  readonly spki: Buffer;
  readonly organization: string;
  readonly commonName: string;
  readonly uris: readonly string[];
  readonly digitalSignature: boolean;
  readonly purposes: readonly ('serverAuth' | 'clientAuth')[];
  /** In ms. */
  readonly notBefore: number;
  readonly notAfter: number;
}

/** A leaf under a CA of the tests, with a real signature. */
export async function issueEmulated({ ca }: TestCa, leaf: EmulatedLeaf): Promise<Buffer> {
  const issuer = issuerFacts(ca);
  const octets = publicKeyOctets(leaf.spki, (what) => new Error(what) as never);
  return signCertificate(issuer, ca.signer, {
    subject: encodeName(leaf.organization, leaf.commonName),
    notBefore: leaf.notBefore,
    notAfter: leaf.notAfter,
    spki: leaf.spki,
    extensions: [
      basicConstraintsExtension(false),
      ...(leaf.digitalSignature ? [keyUsageExtension('digitalSignature')] : []),
      ...(leaf.purposes.length > 0 ? [extendedKeyUsageExtension(...leaf.purposes)] : []),
      authorityKeyIdExtension(issuer.keyId),
      subjectKeyIdExtension(subjectKeyId(octets)),
      ...(leaf.uris.length > 0 ? [subjectAltNameExtension(false, leaf.uris.map(encodeUri))] : []),
    ],
  });
}

/** The CA's certificate first, its root last. */
export function pemChain({ intermediate, root }: TestCa): string[] {
  return [intermediate, root].map((der) => pemEncode('CERTIFICATE', der));
}
