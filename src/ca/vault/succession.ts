import { isSameIssuer } from './issuer.ts';
import type { VaultIssuer } from './issuer.ts';

/** Which issuer signs now, and which one will once its root is known everywhere. */
export interface Succession {
  readonly active: VaultIssuer;
  readonly next?: { readonly issuer: VaultIssuer; readonly seenAt: number };
}

export interface SuccessionRules {
  /** How long a new root is in the bundle before anything is signed under it. */
  readonly settleMs: number;
  /** Whether the operator lets this root be trusted at all. */
  readonly mayTrust: (root: Buffer) => boolean;
}

/**
 * What follows from Vault naming `seen` as its issuer. A new intermediate below a root that is known signs at once; a new
 * root waits its time, and one that nobody approved waits for that. The same object comes back if nothing changed.
 */
export function succeed(before: Succession | undefined, seen: VaultIssuer, now: number, rules: SuccessionRules): Succession {
  if (!before) return { active: seen };
  const { active, next } = before;
  if (isSameIssuer(active, seen)) return next ? { active } : before;
  if (active.root.equals(seen.root)) return { active: seen };
  if (!next || !isSameIssuer(next.issuer, seen)) {
    // The time counts from when the root was first seen, whatever signs under it.
    const seenAt = next?.issuer.root.equals(seen.root) ? next.seenAt : now;
    return { active, next: { issuer: seen, seenAt } };
  }
  const isDue = now - next.seenAt >= rules.settleMs || now >= active.end;
  return isDue && rules.mayTrust(seen.root) ? { active: next.issuer } : before;
}

/** The roots that its leaves chain to or soon will. */
export function rootsOf({ active, next }: Succession): readonly Buffer[] {
  return next ? [active.root, next.issuer.root] : [active.root];
}
