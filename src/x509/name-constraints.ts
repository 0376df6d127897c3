import { SignetError } from '../base/errors.ts';
import type { Certificate } from './certificate.ts';
import { DerReader, tag } from './der-reader.ts';
import { generalName } from './general-names.ts';

const maxSubtrees = 64;

interface Subtree {
  readonly kind: number;
  readonly base: string;
}

/**
 * Why a CA's name constraints (RFC 5280 §4.2.1.10) forbid `certificate`, or undefined. URI constraints are evaluated, as
 * SPIFFE IDs are what we issue; a constraint on any other kind of name that the certificate has fails closed.
 */
export function nameConstraintFault(constraints: Buffer, certificate: Certificate): string | undefined {
  const fields = new DerReader(constraints, malformed).enter(tag.sequence);
  const permitted = fields.peek() === 0xa0 ? readSubtrees(fields.enter(0xa0)) : [];
  const excluded = fields.peek() === 0xa1 ? readSubtrees(fields.enter(0xa1)) : [];
  fields.finish();

  const kinds = new Set([...permitted, ...excluded].map((subtree) => subtree.kind));
  if (kinds.has(generalName.dns) && certificate.dnsNames.length > 0) return 'a DNS name under name constraints';
  if (certificate.otherNames.length > 0 && kinds.size > 0) return 'a name of a kind whose constraints are not evaluated';
  // [4] directoryName constrains a subject that isn't empty.
  if (kinds.has(0xa4) && certificate.subject.length > 2) return 'a subject under name constraints';
  const permittedUris = permitted.filter((subtree) => subtree.kind === generalName.uri);
  for (const uri of certificate.uris) {
    const host = hostOf(uri);
    if (host === undefined) {
      if (kinds.has(generalName.uri)) return 'a URI without a host under name constraints';
      continue;
    }
    if (permittedUris.length > 0 && !permittedUris.some((subtree) => covers(subtree.base, host)))
      return `the name ${uri} is outside what the CA may certify`;
    if (excluded.some((subtree) => subtree.kind === generalName.uri && covers(subtree.base, host)))
      return `the name ${uri} is excluded by the CA`;
  }
  return undefined;
}

function readSubtrees(list: DerReader): Subtree[] {
  const subtrees: Subtree[] = [];
  do {
    if (subtrees.length === maxSubtrees) throw list.malformed('too many name constraints');
    const subtree = list.enter(tag.sequence);
    const kind = subtree.peek();
    subtrees.push({ kind, base: subtree.content(kind).toString('latin1').toLowerCase() });
    // minimum and maximum: RFC 5280 wants 0 and absent, which DER leaves out.
    subtree.finish();
  } while (list.more());
  return subtrees;
}

/** `.example.org` covers all below it but not itself; `example.org` covers itself only. */
function covers(base: string, host: string): boolean {
  return base.startsWith('.') ? host.endsWith(base) && host.length > base.length : host === base;
}

function hostOf(uri: string): string | undefined {
  const authority = /^[A-Za-z][A-Za-z0-9+.-]*:\/\/([^/?#]+)/.exec(uri)?.[1];
  if (authority === undefined || authority.includes('@')) return undefined;
  return authority.replace(/:\d*$/, '').toLowerCase();
}

function malformed(what: string): SignetError {
  return new SignetError('INVALID_ARGUMENT', `name constraints: ${what}`);
}
