import { SignetError } from '../base/errors.ts';
import type { Certificate } from '../x509/certificate.ts';
import type { LeafIssuer } from '../x509/leaf.ts';
import type { SignedChain, SigningRequest } from './authority.ts';

/** A CA of our own, ready to sign, its key in this process or with a custodian. */
export interface ActiveCa {
  readonly issuer: LeafIssuer;
  /** What follows a leaf in its chain. Always the same Buffers, so that whoever verified them once knows them again. */
  readonly intermediates: readonly Buffer[];
  /** The earliest end of the CA certificates above a leaf. */
  readonly issuersEnd: number;
}

/** Signs in this turn of the loop if the CA's signer does. Throws CANCELLED, AUTHORITY_MISCONFIGURED, or what a Signer does. */
export async function signLeaf(ca: ActiveCa, request: SigningRequest, signal: AbortSignal): Promise<SignedChain> {
  if (signal.aborted) throw SignetError.from(signal.reason);
  const notAfter = Math.min(request.notAfter, ca.issuersEnd);
  if (notAfter <= request.notBefore)
    throw new SignetError('AUTHORITY_MISCONFIGURED', 'the CA certificate ends before the certificate asked for begins');
  const { spki, spkiSha256, spiffeId, notBefore } = request;
  const issued = ca.issuer.issue({ spki, spkiSha256, spiffeId, notBefore, notAfter }, signal);
  const chain = ({ der }: Certificate) => ({ certificates: [der, ...ca.intermediates] as const, issuerKeyId: ca.issuer.keyId });
  // A signature that came from elsewhere is to be verified, and its leaf to be read: it is not handed on as built here.
  return issued instanceof Promise ? chain(await issued) : { ...chain(issued), leaf: issued };
}
