import { SignetError } from '../base/errors.ts';
import { parseCertificate } from '../x509/certificate.ts';
import type { SignedChain } from './authority.ts';

const mostCertificates = 10;
const mostKnown = 32;

/** Puts what one CA returned into the shape of a SignedChain. It verifies nothing: the pipeline does. */
export interface ForeignChains {
  /** DER, leaf first; self-issued certificates after it are left out. Throws AUTHORITY_MISBEHAVED. */
  signed(certificates: readonly Buffer[]): SignedChain;
}

export function createForeignChains(name: string): ForeignChains {
  // The same CA certificates come with every leaf: as the same Buffers, the pipeline knows again what it has verified once.
  const known = new Map<string, Buffer>();

  function sameBuffer(der: Buffer): Buffer {
    const key = der.toString('latin1');
    const before = known.get(key);
    if (before) return before;
    if (known.size >= mostKnown) known.clear();
    known.set(key, der);
    return der;
  }

  return {
    signed([leaf, ...rest]) {
      if (!leaf || rest.length >= mostCertificates)
        throw new SignetError('AUTHORITY_MISBEHAVED', `${name} returned ${leaf ? 'too many certificates' : 'no certificate'}`);
      try {
        const above = rest.map(sameBuffer).filter((der) => !isSelfIssued(der));
        return { certificates: [leaf, ...above], issuerKeyId: issuerKeyId(leaf, above[0]) };
      } catch (error) {
        throw new SignetError('AUTHORITY_MISBEHAVED', `${name} returned what can't be read as certificates`, { cause: error });
      }
    },
  };
}

function issuerKeyId(leaf: Buffer, issuer: Buffer | undefined): string {
  return parseCertificate(leaf).authorityKeyId ?? (issuer && parseCertificate(issuer).subjectKeyId) ?? '';
}

const selfIssued = new WeakMap<Buffer, boolean>();

/** A root, or what passes for one: anchors are never taken from what a CA returns with a leaf. */
function isSelfIssued(der: Buffer): boolean {
  let is = selfIssued.get(der);
  if (is === undefined) {
    const { issuer, subject } = parseCertificate(der);
    is = issuer.equals(subject);
    selfIssued.set(der, is);
  }
  return is;
}
