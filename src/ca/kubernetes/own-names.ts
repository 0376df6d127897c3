import { SignetError } from '../../base/errors.ts';
import { parseCsr } from '../../x509/csr.ts';
import type { SigningRequest } from '../authority.ts';

/**
 * These CAs take the names from the request alone: one without the SPIFFE ID would come back without it. Throws
 * AUTHORITY_REFUSED, saying what the request must have.
 */
export function checkOwnNames(backend: string, { spiffeId, csr }: SigningRequest): void {
  const { uris, otherNames } = parseCsr(csr());
  if (uris.length === 1 && uris[0] === spiffeId && otherNames.length === 0) return;
  throw new SignetError(
    'AUTHORITY_REFUSED',
    `CA backend ${backend} certifies the names that are in the CSR: make it with the one URI SAN ${spiffeId}, and no other name`,
  );
}
