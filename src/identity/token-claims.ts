import { authenticationFailed, shown, tokenExpired } from './authentication-failure.ts';
import type { JsonObject } from './json-pointer.ts';

/** The registered claims (RFC 7519 §4.1) that we need, their form checked. Times in ms since the epoch. */
export interface TokenClaims {
  readonly subject: string;
  readonly audiences: readonly string[];
  readonly issuedAt: number;
  readonly notBefore: number;
  readonly ends: number;
}

/** How far an issuer's clock may be ahead of ours. Nothing is added to the end of a token. */
const leewayMs = 30_000;
const year9999 = 253_402_300_799;
const mostAudiences = 64;
/** Goes into logs and listings: printable ASCII. */
const subjectCharacters = /^[\x20-\x7e]{1,512}$/;

/** Reads the form alone; whether the times hold is checkLife's matter. Throws UNAUTHENTICATED (reason `claim`). */
export function readClaims(claims: JsonObject): TokenClaims {
  const subject = claims['sub'];
  if (typeof subject !== 'string' || !subjectCharacters.test(subject)) throw authenticationFailed('claim', `sub is ${shown(subject)}`);
  const issuedAt = numericDate('iat', claims['iat']);
  return {
    subject,
    audiences: audiencesOf(claims['aud']),
    issuedAt,
    notBefore: claims['nbf'] === undefined ? issuedAt : numericDate('nbf', claims['nbf']),
    ends: numericDate('exp', claims['exp']),
  };
}

/** Ask this of a verified token alone: the answer says when it ended. Throws TOKEN_EXPIRED or UNAUTHENTICATED. */
export function checkLife(claims: TokenClaims, now: number, longestLifeMs: number): void {
  if (claims.ends <= now) throw tokenExpired(claims.ends);
  if (claims.notBefore > now + leewayMs || claims.issuedAt > now + leewayMs) {
    throw authenticationFailed('not-yet-valid', `it starts at ${new Date(Math.max(claims.notBefore, claims.issuedAt)).toISOString()}`);
  }
  const life = claims.ends - claims.issuedAt;
  if (life > longestLifeMs)
    throw authenticationFailed('too-long-lived', `its life of ${Math.round(life / 1000)} s is over maxTokenLifetime`);
}

function audiencesOf(value: unknown): readonly string[] {
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (list.length > mostAudiences || !list.every((audience) => typeof audience === 'string'))
    throw authenticationFailed('claim', 'aud is neither a string nor a short list of them');
  return list;
}

function numericDate(name: string, value: unknown): number {
  if (typeof value === 'number' && value >= 0 && value <= year9999) return value * 1000;
  throw authenticationFailed('claim', `${name} is missing or no time`);
}
