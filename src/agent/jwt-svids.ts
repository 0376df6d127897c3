import type { Clock } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import { isSpiffeId } from '../spiffe/id.ts';
import type { JwtSvid } from '../workload-api/workload-source.ts';
import { isAway } from './upstream.ts';
import type { Credential, Upstream } from './upstream.ts';

/** JWT-SVIDs of one workload, from the server; each is handed out again until half of its life is over. */
export interface JwtSvidCache {
  /** Throws a SignetError. */
  fetch(audiences: readonly string[], spiffeId: string, signal: AbortSignal): Promise<JwtSvid>;
}

interface SignedJwt {
  readonly svid: string;
  readonly spiffeId: string;
  readonly issuedAt: number;
  readonly expiresAt: number;
}

interface Kept {
  readonly svid: JwtSvid;
  readonly freshUntil: number;
}

/** A process asks for a handful of audiences; whoever asks for more is served without memory. */
const mostKept = 200;
const longestToken = 16 * 1024;

export function createJwtSvidCache(parts: {
  readonly upstream: Pick<Upstream, 'call'>;
  readonly withCredential: <T>(work: (credential: Credential) => Promise<T>) => Promise<T>;
  readonly clock: Clock;
}): JwtSvidCache {
  const { clock } = parts;
  const kept = new Map<string, Kept>();

  async function signed(audiences: readonly string[], spiffeId: string, signal: AbortSignal): Promise<Kept> {
    const request = { audience: audiences, spiffeId };
    const answer = await parts.withCredential((credential) => parts.upstream.call<SignedJwt>('SignJwtSvid', request, credential, signal));
    if (
      answer.spiffeId !== spiffeId ||
      !isSpiffeId(answer.spiffeId) ||
      answer.svid.length > longestToken ||
      answer.expiresAt <= answer.issuedAt
    )
      throw new SignetError('AUTHORITY_MISBEHAVED', 'the server answered with another JWT-SVID than was asked for');
    const now = clock.now();
    const expiresAt = answer.expiresAt * 1000;
    const svid: JwtSvid = { spiffeId, token: answer.svid, hint: '', expiresAt };
    // By our own clock from now on: half of what is left of it.
    return { svid, freshUntil: now + (expiresAt - now) / 2 };
  }

  function keep(name: string, one: Kept): void {
    kept.delete(name);
    kept.set(name, one);
    const [oldest] = kept.keys();
    if (kept.size > mostKept && oldest !== undefined) kept.delete(oldest);
  }

  return {
    async fetch(audiences, spiffeId, signal) {
      // In their order, which is the token's.
      const name = JSON.stringify([spiffeId, ...audiences]);
      const before = kept.get(name);
      if (before && clock.now() < before.freshUntil) return before.svid;
      try {
        const next = await signed(audiences, spiffeId, signal);
        keep(name, next);
        return next.svid;
      } catch (error) {
        const failure = SignetError.from(error);
        // Past its half but good: better than nothing while nobody answers.
        if (before && isAway(failure.code) && clock.now() < before.svid.expiresAt) return before.svid;
        throw failure;
      }
    },
  };
}
