import { SignetError } from '../base/errors.ts';

/** Where an issuer's public keys come from. */
export type KeyLocation =
  /** A file's path (read again when it changes) or an https:// URL of a JWK set. */
  | { readonly jwks: string }
  /** The URL of an OpenID Connect discovery document, or of the issuer that has it under /.well-known/. */
  | { readonly discovery: string }
  /** A JWK set given in memory: the development issuer's. */
  | { readonly inline: object };

/** The URL is checked: https, or http to this machine's loopback; no user, password or fragment. */
export type KeyPlace =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'url'; readonly url: URL }
  | { readonly kind: 'discovery'; readonly url: URL }
  | { readonly kind: 'inline'; readonly text: string };

const wellKnown = '/.well-known/openid-configuration';
const scheme = /^[a-z][a-z0-9+.-]*:\/\//i;

/** A URL that keys may be fetched from; a string says what is wrong. Also judges what a discovery document points to. */
export function checkKeyUrl(text: string): URL | string {
  const url = text.length <= 2048 ? URL.parse(text) : null;
  if (!url) return 'not a URL';
  if (url.username !== '' || url.password !== '') return 'a URL here has no user or password; use tokenFile';
  if (url.hash !== '') return 'a URL here has no fragment';
  if (url.protocol === 'https:') return url;
  // Whoever can change the answer on its way mints identities: plain http stays on this machine.
  if (url.protocol === 'http:' && isLoopback(url.hostname)) return url;
  return 'keys come over https:// (http:// only from 127.0.0.1, [::1] or localhost)';
}

function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(hostname);
}

function locate(keys: KeyLocation): KeyPlace | string {
  if ('inline' in keys) return { kind: 'inline', text: JSON.stringify(keys.inline) };
  if ('jwks' in keys && !scheme.test(keys.jwks))
    return keys.jwks === '' ? 'name a file or an https:// URL' : { kind: 'file', path: keys.jwks };
  const url = checkKeyUrl('jwks' in keys ? keys.jwks : keys.discovery);
  if (typeof url === 'string') return url;
  if ('jwks' in keys) return { kind: 'url', url };
  // OpenID Connect Discovery §4: the issuer's path with a slash at its end dropped, then the well-known suffix.
  if (!url.pathname.endsWith(wellKnown)) url.pathname = url.pathname.replace(/\/$/, '') + wellKnown;
  return { kind: 'discovery', url };
}

export function keyLocationProblem(keys: KeyLocation): string | undefined {
  const place = locate(keys);
  return typeof place === 'string' ? place : undefined;
}

/** Throws CONFIG_INVALID. */
export function keyPlace(keys: KeyLocation): KeyPlace {
  const place = locate(keys);
  if (typeof place === 'string') throw new SignetError('CONFIG_INVALID', `an issuer's keys: ${place}`);
  return place;
}
