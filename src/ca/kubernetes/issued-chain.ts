import { SignetError } from '../../base/errors.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import type { Certificate } from '../../x509/certificate.ts';
import { certificatesFromPem } from '../../x509/pem.ts';
import type { SignedChain } from '../authority.ts';

export interface IssuedChain {
  readonly chain: SignedChain;
  readonly leaf: Certificate;
  /** The earliest end of the CAs above the leaf, as far as they are known. */
  readonly issuersEnd: number;
}

const longestChain = 10;

/**
 * A chain out of the PEM that a signer returned, without the root that some append. It is judged by the issuing pipeline;
 * here it is only taken apart. Throws AUTHORITY_MISBEHAVED.
 */
export function issuedChain(backend: string, pem: string, roots: readonly Buffer[]): IssuedChain {
  const misbehaved = (what: string, cause?: unknown): SignetError =>
    new SignetError('AUTHORITY_MISBEHAVED', `CA backend ${backend} returned something else than a chain: ${what}`, { cause });
  let parsed: Certificate[];
  try {
    parsed = certificatesFromPem(pem).map(parseCertificate);
  } catch (error) {
    throw misbehaved(SignetError.from(error).message, error);
  }
  if (parsed.length > longestChain) throw misbehaved(`more than ${String(longestChain)} certificates`);
  const [leaf, ...given] = parsed;
  if (leaf?.authorityKeyId === undefined) throw misbehaved('the certificate does not name the key that signed it');
  const intermediates = given.filter(({ der, subject, issuer }) => !subject.equals(issuer) && !roots.some((root) => root.equals(der)));
  const top = intermediates.at(-1) ?? leaf;
  const above = roots.map(parseCertificate).find(({ subjectKeyId }) => subjectKeyId !== undefined && subjectKeyId === top.authorityKeyId);
  const ends = [...intermediates, ...(above ? [above] : [])].map(({ notAfter }) => notAfter);
  return {
    chain: { certificates: [leaf.der, ...intermediates.map(({ der }) => der)], issuerKeyId: leaf.authorityKeyId },
    leaf,
    issuersEnd: Math.min(Infinity, ...ends),
  };
}
