import { SignetError } from '../base/errors.ts';
import type { SpiffeId } from '../spiffe/id.ts';

export type KeyMode = 'server' | 'csr' | 'agent';

/** What policy gives an identity. */
export interface Grant {
  readonly tier: string;
  /** The longest life of a certificate, in ms: a longer one asked for is capped, silently. */
  readonly maxTtlMs: number;
  /** Which mode answers `default`. Set by policy, never inferred and never a fallback. */
  readonly keyMode: KeyMode;
  /** The name of the CA backend. */
  readonly authority: string;
  /** Further backends that it may pick by name. */
  readonly certSigners: readonly string[];
  /** Absolute folders (no trailing slash) under which a bound key may be. */
  readonly keyDirectories: readonly string[];
  /** How long one key may be re-signed, in ms. */
  readonly keyMaxAgeMs: number;
}

/** What policy gives another Signet that runs an intermediate below ours. */
export interface DownstreamGrant {
  /** The longest life of its CA certificate, in ms. */
  readonly maxTtlMs: number;
  /** The name of the CA backend that certifies it. */
  readonly authority: string;
}

export interface PolicySubject {
  readonly spiffeId: SpiffeId;
  readonly issuer: string;
}

export interface Policy {
  /** Computed at every use, after any cache of tokens. Throws PERMISSION_DENIED or IDENTITY_DENIED. */
  grant(subject: PolicySubject): Grant;
  /** Whether it is granted anything. Throws as `grant` does. */
  check(subject: PolicySubject): void;
  /** Whether it may have a CA of its own. Throws PERMISSION_DENIED, as for everybody whom no rule names, or as `grant` does. */
  downstream(subject: PolicySubject): DownstreamGrant;
}

/** The backend that signs: the one asked for if it may be picked, else policy's. Throws PERMISSION_DENIED: another is never taken in its stead. */
export function backendOf(grant: Grant, asked: string | undefined): string {
  if (asked === undefined || asked === grant.authority || grant.certSigners.includes(asked)) return asked ?? grant.authority;
  throw new SignetError('PERMISSION_DENIED', 'policy lets this identity pick no CA backend of that name');
}
