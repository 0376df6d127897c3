import type { AuthorityStatus } from '../api/authority-health.ts';
import type { Health } from '../api/health.ts';
import type { Issuer } from '../issuance/issuer.ts';

export interface Readiness {
  readonly ready: boolean;
  /** For the operator: why not, or who signs in whose stead. */
  readonly detail: string;
}

/**
 * Ready means: can sign. Answered at once from what is known; asking also has the CA backends looked at again, so that
 * whoever polls is told the truth of a few seconds ago at worst.
 */
export function createReadiness(
  issuer: Pick<Issuer, 'readiness'>,
  askAuthorities: () => Promise<readonly AuthorityStatus[]>,
  /** The names of the default CA backend and of those that sign in its stead, in that order. */
  defaultAuthorities: () => readonly string[],
): () => Readiness {
  let last: readonly AuthorityStatus[] = [];
  const look = (): void => {
    askAuthorities().then(
      (statuses) => {
        last = statuses;
      },
      () => undefined,
    );
  };
  look();
  return () => {
    look();
    const own = issuer.readiness();
    if (!own.ready) return own;
    const statuses = defaultAuthorities().flatMap((wanted) => last.find(({ name }) => name === wanted) ?? []);
    const broken = statuses[0];
    if (!broken || broken.canSign) return { ready: true, detail: '' };
    const detail = `CA backend ${broken.name}: ${broken.detail}`;
    const instead = statuses.find(({ canSign }) => canSign);
    return instead ? { ready: true, detail: `${detail}; ${instead.name} signs in its stead` } : { ready: false, detail };
  };
}

const healthEveryMs = 2000;

/** Keeps gRPC health at what readiness says: a load balancer that asks sends callers to whoever can sign. Returns how to stop. */
export function reportHealth(health: Pick<Health, 'setServing'>, readiness: () => Readiness): () => void {
  const report = (): void => {
    health.setServing(readiness().ready);
  };
  report();
  const timer = setInterval(report, healthEveryMs);
  timer.unref();
  return () => {
    clearInterval(timer);
    health.setServing(false);
  };
}
