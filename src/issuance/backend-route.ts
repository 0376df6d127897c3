import { SignetError } from '../base/errors.ts';
import type { GuardedAuthority } from '../ca/resilience/guarded-authority.ts';

export interface RouteWish {
  /** Whether another may sign in its stead: not where the caller picked this one by name. */
  readonly fallback: boolean;
  /** A certificate in use is late with its renewal: it doesn't wait until a throttling backend has time for it. */
  readonly late: boolean;
  /** Those that were tried for this certificate already. */
  readonly tried: ReadonlySet<string>;
}

/**
 * Which backend makes the next certificate of those whose own is `first`: that one, or while its circuit is open the
 * nearest of its fallbacks that can be asked. The refusal of the first if none can. A name without a backend is
 * returned as it is: what is missing is said where it is used.
 */
export function chooseBackend(authorities: ReadonlyMap<string, GuardedAuthority>, first: string, wish: RouteWish): string | SignetError {
  // The common case: one that signs in this process is never away.
  if (authorities.get(first)?.guard === undefined && !wish.tried.has(first)) return first;
  let refused: SignetError | undefined;
  for (const name of wish.fallback ? withFallbacks(authorities, first) : [first]) {
    const refusal = authorities.get(name)?.guard?.refusal();
    if (refusal) {
      // Throttling alone moves nobody: a flood at the first would become one at the second.
      if (refused === undefined && refusal.code === 'AUTHORITY_THROTTLED' && !wish.late) return refusal;
      refused ??= refusal;
    } else if (!wish.tried.has(name)) {
      return name;
    }
  }
  return refused ?? new SignetError('AUTHORITY_UNAVAILABLE', `CA backend ${first} is away, and so is whoever could sign in its stead`);
}

/** A backend and those that sign in its stead, in that order. */
export function withFallbacks(authorities: ReadonlyMap<string, Pick<GuardedAuthority, 'fallback'>>, first: string): string[] {
  const names = new Set<string>();
  for (let name: string | undefined = first; name !== undefined && !names.has(name); name = authorities.get(name)?.fallback)
    names.add(name);
  return [...names];
}
