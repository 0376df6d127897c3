import type { Clock } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Authority, SignedChain, SigningRequest } from '../ca/authority.ts';
import { checkIssued } from '../x509/chain.ts';
import type { CheckedAnchors, CheckedChain } from '../x509/material.ts';

export interface IssuedChainDeps {
  /** The trust bundle as it is now. */
  readonly anchors: () => { readonly generation: number; readonly anchors: CheckedAnchors };
  /** Those of the bundle that a new certificate may chain to: everybody has them. All of it, if left out. */
  readonly activeAnchors?: () => CheckedAnchors;
  /** Asks the CA backend of this name for its anchors again, now: it returned a chain to none that is known. */
  readonly refreshAnchors?: (authority: string, signal: AbortSignal) => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
}

/** How soon to ask again while a new root is being distributed. */
const distributionRetryMs = 1000;

/**
 * Judges what a CA backend returned by what it was asked for and by the anchors that everybody has. Synchronous when all is
 * well. Throws AUTHORITY_MISBEHAVED naming the fault, or AUTHORITY_UNAVAILABLE while its new root is being distributed.
 */
export function createIssuedChain(
  deps: IssuedChainDeps,
): (authority: Authority, asked: SigningRequest, signed: SignedChain, signal: AbortSignal) => CheckedChain | Promise<CheckedChain> {
  const { clock } = deps;
  const publishedAnchors = (): CheckedAnchors => deps.anchors().anchors;

  /** Synchronous for a chain to an anchor that everybody has; else the reason is looked into. */
  function judge(
    authority: Authority,
    asked: SigningRequest,
    signed: SignedChain,
    signal: AbortSignal,
  ): CheckedChain | Promise<CheckedChain> {
    try {
      return check(authority, asked, signed, (deps.activeAnchors ?? publishedAnchors)());
    } catch (error) {
      return judgeLate(authority, asked, signed, signal, error);
    }
  }

  /** A backend may have a new root: one that the bundle has and not everybody took, or one that it has yet to tell of. */
  async function judgeLate(
    authority: Authority,
    asked: SigningRequest,
    signed: SignedChain,
    signal: AbortSignal,
    fault: unknown,
  ): Promise<CheckedChain> {
    if (!chainsTo(authority, asked, signed, publishedAnchors()) && !authority.capabilities.builtHere) {
      await deps.refreshAnchors?.(authority.name, signal);
    }
    if (chainsTo(authority, asked, signed, publishedAnchors())) {
      if (deps.activeAnchors && !chainsTo(authority, asked, signed, deps.activeAnchors())) {
        throw new SignetError('AUTHORITY_UNAVAILABLE', 'the CA has a new root, which is on its way to everybody: try again', {
          retryAfterMs: distributionRetryMs,
        });
      }
      return check(authority, asked, signed, publishedAnchors());
    }
    deps.log.error(
      { authority: authority.name, spiffeId: asked.spiffeId, err: fault },
      'what the CA returned is not what was asked for; it is not used',
    );
    throw fault;
  }

  function chainsTo(authority: Authority, asked: SigningRequest, signed: SignedChain, anchors: CheckedAnchors): boolean {
    try {
      check(authority, asked, signed, anchors);
      return true;
    } catch {
      return false;
    }
  }

  function check(authority: Authority, asked: SigningRequest, signed: SignedChain, anchors: CheckedAnchors): CheckedChain {
    return checkIssued({
      chain: signed.certificates,
      anchors: anchors.certificates,
      at: clock.now(),
      expected: { spkiSha256: asked.spkiSha256, spiffeId: asked.spiffeId, notAfter: asked.notAfter },
      builtHere: authority.capabilities.builtHere ? signed.leaf : undefined,
    });
  }

  return judge;
}
