import { SignetError } from '../base/errors.ts';
import { parseCertificate } from './certificate.ts';
import type { Certificate } from './certificate.ts';
import { caCertificate, pathError } from './path.ts';
import { verifyChain } from './chain.ts';

export interface IntermediateCheck {
  /** DER: the new CA certificate first, then those above it. */
  readonly chain: readonly Buffer[];
  readonly anchors: readonly Buffer[];
  /** Now, in ms. */
  readonly at: number;
  readonly expected: {
    readonly spkiSha256: string;
    /** Of its trust domain: the one URI that it may have (SPIFFE X509-SVID §4.2). */
    readonly uri: string;
    /** Whether its path length must be 0: there is then no CA below it, whoever has its key. */
    readonly forLeavesOnly: boolean;
    /** The latest end that is acceptable, in ms. */
    readonly notAfter: number;
  };
}

export interface CheckedIntermediate {
  readonly certificate: Certificate;
  /** From the one above it up, without the root. */
  readonly above: readonly Buffer[];
  readonly root: Buffer;
  /** The earliest end of all of them, in ms. */
  readonly issuersEnd: number;
}

/**
 * Whether a CA certificate is the one that was asked for: for this key, below one of these anchors, for leaves and no CA
 * below it, of this trust domain, and no longer than meant. Throws AUTHORITY_MISBEHAVED naming the fault.
 */
export function checkIssuedIntermediate(check: IntermediateCheck): CheckedIntermediate {
  try {
    return checked(check);
  } catch (error) {
    if (!(error instanceof SignetError) || error.code === 'INTERNAL') throw error;
    throw new SignetError('AUTHORITY_MISBEHAVED', `the CA certificate is not what was asked for: ${error.message}`, { cause: error });
  }
}

function checked({ chain, anchors, at, expected }: IntermediateCheck): CheckedIntermediate {
  const [der, ...given] = chain;
  if (!der) throw new SignetError('INVALID_ARGUMENT', 'an empty chain');
  const { certificate } = caCertificate(der);
  const fault = intermediateFault(certificate, expected);
  if (fault !== undefined) throw pathError(certificate, fault);
  const above = given.filter((one) => !anchors.some((anchor) => anchor.equals(one)));
  verifyChain([der, ...above], anchors, at);
  const root = anchorOf([der, ...above], anchors, at);
  const issuersEnd = Math.min(...[der, ...above, root].map((one) => parseCertificate(one).notAfter));
  return { certificate, above, root, issuersEnd };
}

function intermediateFault(certificate: Certificate, expected: IntermediateCheck['expected']): string | undefined {
  if (certificate.spkiSha256 !== expected.spkiSha256) return 'it is for another key';
  if (certificate.keyUsage?.has('keyCertSign') !== true) return 'its key usage does not allow signing certificates';
  if (expected.forLeavesOnly && certificate.pathLength !== 0) return 'it allows CAs below it: its path length must be 0';
  if (certificate.uris.some((uri) => uri !== expected.uri)) return `it names something else than ${expected.uri}`;
  if (certificate.dnsNames.length > 0 || certificate.otherNames.length > 0) return 'it has names other than a URI';
  if (certificate.notAfter > expected.notAfter) return 'it lives longer than was asked for';
  return undefined;
}

/** Which of them it hangs on. They have been found to be enough together. */
function anchorOf(chain: readonly Buffer[], anchors: readonly Buffer[], at: number): Buffer {
  const found = anchors.find((anchor) => {
    try {
      verifyChain(chain, [anchor], at);
      return true;
    } catch {
      return false;
    }
  });
  if (!found) throw new SignetError('INTERNAL', 'a verified chain without an anchor');
  return found;
}
