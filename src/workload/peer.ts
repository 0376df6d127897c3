import { SignetError } from '../base/errors.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { checkSvid, verifySvid } from '../x509/chain.ts';
import type { Authorize } from './authorize.ts';
import { trustDomainName } from './x509-context.ts';
import type { X509Context } from './x509-context.ts';

/**
 * Whose certificate a server showed: its chain (DER, leaf first) must lead to a CA of its own trust domain, for a CA of one
 * trust domain has no say about the names of another (SPIFFE Federation §5). Throws INVALID_ARGUMENT, or PERMISSION_DENIED
 * where the peer is who it says but isn't wanted.
 */
export function verifyServer(chain: readonly Buffer[], { bundles }: X509Context, authorize: Authorize, at: number): string {
  const [leaf] = chain;
  if (!leaf) throw new SignetError('INVALID_ARGUMENT', 'the peer showed no certificate');
  const [uri = ''] = parseCertificate(leaf).uris;
  const anchors = bundles.get(trustDomainName(uri));
  if (!anchors) throw new SignetError('PERMISSION_DENIED', `the peer is of a trust domain that is not trusted: ${uri}`);
  // A chain as TLS shows it may end with the root.
  const intermediates = chain.slice(1).filter((der) => !anchors.some((anchor) => anchor.equals(der)));
  const { spiffeId } = verifySvid([leaf, ...intermediates], anchors, at);
  return authorized(spiffeId, authorize);
}

/**
 * Whose certificate a client showed. Node shows a server the leaf alone (24.21, whatever is asked for), so that the path is
 * TLS's to verify: `leaf` must come from a handshake whose only roots were those of `trustDomain`.
 */
export function verifyClient(leaf: Buffer, trustDomain: string, authorize: Authorize, at: number): string {
  const spiffeId = checkSvid(leaf, at);
  if (trustDomainName(spiffeId) !== trustDomain)
    throw new SignetError('PERMISSION_DENIED', `the peer is of a trust domain that is not accepted here: ${spiffeId}`);
  return authorized(spiffeId, authorize);
}

function authorized(spiffeId: string, authorize: Authorize): string {
  if (!authorize(spiffeId)) throw new SignetError('PERMISSION_DENIED', `the peer is not one that is wanted here: ${spiffeId}`);
  return spiffeId;
}
