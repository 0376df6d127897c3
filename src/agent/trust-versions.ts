import type { Clock } from '../base/clock.ts';
import { sha256Hex } from '../x509/keys.ts';
import { checkAnchors } from '../x509/preflight.ts';
import type { TrustVersion } from './workload-material.ts';

/**
 * Checks anchors that came from a server, once for all workloads: two hundred that trust the same share one object, and
 * with it one encoded secret.
 */
export interface TrustVersions {
  /** Throws INVALID_ARGUMENT: nothing is trusted for it. */
  checked(generation: number, certificates: readonly Buffer[]): TrustVersion;
}

/** Two trust domains' worth and those of a change that is under way. */
const kept = 8;

export function createTrustVersions(clock: Clock): TrustVersions {
  const known = new Map<string, TrustVersion>();
  return {
    checked(generation, certificates) {
      const name = `${String(generation)} ${sha256Hex(Buffer.concat(certificates.toSorted((a, b) => a.compare(b))))}`;
      const before = known.get(name);
      if (before) return before;
      const version: TrustVersion = { generation, anchors: checkAnchors(certificates, clock.now()) };
      known.set(name, version);
      const [oldest] = known.keys();
      if (known.size > kept && oldest !== undefined) known.delete(oldest);
      return version;
    },
  };
}
