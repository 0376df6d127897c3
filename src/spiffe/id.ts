import { SignetError } from '../base/errors.ts';

declare const trustDomainBrand: unique symbol;
declare const spiffeIdBrand: unique symbol;

/** A checked trust domain name, for example `cluster.local`. */
export type TrustDomain = string & { readonly [trustDomainBrand]: true };
/** A checked SPIFFE ID with a path, for example `spiffe://cluster.local/ns/shop/sa/web`. */
export type SpiffeId = string & { readonly [spiffeIdBrand]: true };

/** SPIFFE-ID §2.3: an ID longer than this need not be supported. */
const longestId = 2048;
const trustDomainPattern = /^[a-z0-9._-]{1,255}$/;
const segmentPattern = /^[a-zA-Z0-9._-]+$/;
/** A trust domain and at least one segment, none of them "." or "..". In one go: each token's identity is checked by it. */
const idPattern = /^spiffe:\/\/[a-z0-9._-]{1,255}(?:\/(?!\.{1,2}(?:\/|$))[a-zA-Z0-9._-]+)+$/;

export function isTrustDomain(text: string): text is TrustDomain {
  return trustDomainPattern.test(text);
}

export function parseTrustDomain(text: string): TrustDomain {
  if (isTrustDomain(text)) return text;
  throw new SignetError('INVALID_ARGUMENT', 'a trust domain is 1 to 255 of a-z, 0-9, ".", "_" and "-"');
}

/** One path segment (SPIFFE-ID §2.2). Refused, never cleaned: two names must not fold into one identity. */
export function isPathSegment(text: string): boolean {
  return text.length <= longestId && segmentPattern.test(text) && text !== '.' && text !== '..';
}

/** What is wrong with the path of a SPIFFE ID, in words for the operator; undefined if nothing is. */
export function pathProblem(path: string): string | undefined {
  if (path.length <= longestId && path.startsWith('/') && path.slice(1).split('/').every(isPathSegment)) return undefined;
  return 'must be the path of a SPIFFE ID: "/" and segments of a-z, A-Z, 0-9, ".", "_" and "-"';
}

export function isSpiffeId(text: string): text is SpiffeId {
  return text.length <= longestId && idPattern.test(text);
}

/** Throws INVALID_ARGUMENT; the message holds nothing of the input. */
export function parseSpiffeId(text: string): SpiffeId {
  if (isSpiffeId(text)) return text;
  throw new SignetError('INVALID_ARGUMENT', 'not a SPIFFE ID of the form spiffe://<trust domain>/<path>');
}

/** Throws INVALID_ARGUMENT. */
export function spiffeId(domain: TrustDomain, segments: readonly string[]): SpiffeId {
  // Each by itself: a "/" inside one would make two of it.
  if (!segments.every(isPathSegment))
    throw new SignetError('INVALID_ARGUMENT', 'a segment of a SPIFFE ID has characters that it may not have');
  return parseSpiffeId(`spiffe://${domain}/${segments.join('/')}`);
}

export function trustDomainOf(id: SpiffeId): TrustDomain {
  return parseTrustDomain(id.slice('spiffe://'.length, id.indexOf('/', 'spiffe://'.length)));
}

/** The path with its leading slash. */
export function pathOf(id: SpiffeId): string {
  return id.slice(id.indexOf('/', 'spiffe://'.length));
}

/** The trust domain as a SPIFFE ID without a path: how a signing certificate names it (SPIFFE X509-SVID §4.2). */
export function trustDomainUri(trustDomain: TrustDomain): string {
  return `spiffe://${trustDomain}`;
}
