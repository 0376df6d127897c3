import type { Clock } from '../base/clock.ts';
import type { ErrorCode } from '../base/errors.ts';
import { SignetError } from '../base/errors.ts';
import type { WorkloadSource, X509State } from '../workload-api/workload-source.ts';
import type { JwtBundleFeed } from './jwt-bundles.ts';
import type { JwtSvidCache } from './jwt-svids.ts';
import type { Workload } from './workload.ts';
import type { WorkloadMaterial } from './workload-material.ts';

/** Answers after which asking again soon won't help. A token that isn't there, or has ended, may be replaced at any moment. */
const denials: ReadonlySet<ErrorCode> = new Set(['PERMISSION_DENIED', 'IDENTITY_DENIED']);

/** What the SPIFFE Workload API hands out to one workload. */
export function workloadSource(parts: {
  readonly workload: Pick<Workload, 'feed' | 'failure'>;
  readonly jwtSvids: JwtSvidCache;
  readonly jwtBundles: JwtBundleFeed;
  readonly clock: Clock;
}): WorkloadSource {
  const { workload, jwtSvids, jwtBundles, clock } = parts;
  let last: { readonly of: WorkloadMaterial; readonly state: X509State } | undefined;

  /** One that has ended is none: nobody would accept it. */
  function material(): WorkloadMaterial | undefined {
    const current = workload.feed.current();
    return current && current.chain.notAfter > clock.now() ? current : undefined;
  }

  function without(): 'pending' | 'denied' {
    const failure = workload.failure();
    return failure && denials.has(failure.code) ? 'denied' : 'pending';
  }

  return {
    x509() {
      const current = material();
      if (!current) return without();
      if (last?.of !== current) last = { of: current, state: stateOf(current) };
      return last.state;
    },
    jwtBundles() {
      const current = jwtBundles.current();
      return current ?? without();
    },
    subscribe(listener) {
      const stops = [workload.feed.subscribe(listener), jwtBundles.subscribe(listener)];
      return () => {
        for (const stop of stops) stop();
      };
    },
    async fetchJwtSvids({ audiences, spiffeId }, signal) {
      const own = material()?.spiffeId;
      if (own === undefined) {
        if (without() === 'denied') throw new SignetError('PERMISSION_DENIED', 'the workload has no identity');
        throw new SignetError('AUTHORITY_UNAVAILABLE', 'the workload has no identity yet: try again');
      }
      if (spiffeId !== undefined && spiffeId !== own) throw new SignetError('PERMISSION_DENIED', "that identity is not the workload's");
      return [await jwtSvids.fetch(audiences, own, signal)];
    },
  };
}

function stateOf({ spiffeId, chain, key, anchors }: WorkloadMaterial): X509State {
  const keyPkcs8 = key.export({ type: 'pkcs8', format: 'der' });
  return {
    svids: [{ spiffeId, chain: chain.certificates, keyPkcs8, hint: '' }],
    bundles: new Map([...anchors].map(([domain, { anchors: trusted }]) => [`spiffe://${domain}`, trusted.certificates])),
    crls: [],
  };
}
