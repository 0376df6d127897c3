import { SignetError } from '../base/errors.ts';
import type { SpiffeId } from '../spiffe/id.ts';

const longestShown = 120;

/** The names of a request, as x509/csr.ts reports them. */
export interface RequestedNames {
  readonly uris: readonly string[];
  /** With their kind, for example `DNS:web`. */
  readonly otherNames: readonly string[];
}

/** A request may ask for no name at all, or for exactly the caller's own. Throws INVALID_CSR naming what else it asks for. */
export function checkRequestedNames(names: RequestedNames, own: SpiffeId): void {
  const other = names.otherNames[0];
  if (other !== undefined) throw notGranted(other, own);
  const [first, second] = names.uris;
  if (first === undefined) return;
  if (first !== own) throw notGranted(`URI:${first}`, own);
  if (second !== undefined) throw notGranted(`URI:${second}`, own);
}

/** For a CA that takes names from requests alone. The metadata has what must be in it, so that a client can ask again. */
export function nameRequired(own: SpiffeId): SignetError {
  return new SignetError('CSR_NAME_REQUIRED', `the CA of this identity certifies what the CSR names: make it with the URI SAN ${own}`, {
    metadata: { spiffe_id: own },
  });
}

function notGranted(name: string, own: SpiffeId): SignetError {
  return new SignetError('INVALID_CSR', `the request asks for ${shown(name)}: ask for no name, or for ${own} alone`);
}

/** What the client wrote goes into its answer and our log: printable, without quotes to break out of, and short. */
function shown(name: string): string {
  const clean = name.slice(0, longestShown).replace(/[^\x21-\x7e]|["\\]/g, '?');
  return `"${clean}${name.length > longestShown ? '...' : ''}"`;
}
