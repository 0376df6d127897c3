import type { Clock } from '../base/clock.ts';
import { abortable, deadlineSignal } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import type { Caller, Pod } from '../identity/caller.ts';
import type { SpiffeId, TrustDomain } from '../spiffe/id.ts';
import { isSpiffeId, pathOf, trustDomainOf } from '../spiffe/id.ts';
import type { AuditEntry } from '../store/store.ts';

export type OnNode = { readonly proved: true } | { readonly proved: false /** For our log alone. */; readonly why: string };

/** What knows where pods run. */
export interface PodsOnNode {
  /**
   * Whether a pod with this identity runs on the node where the caller's pod runs. The caller's pod must still be there
   * under the same uid. Rejects if that can't be told now.
   */
  check(caller: Pod, identity: SpiffeId, signal: AbortSignal): Promise<OnNode>;
}

/** A node proxy (Istio's ztunnel) asks for the certificates of the pods on its node, under its own token. */
export interface Impersonation {
  /**
   * The caller as whom the certificate is made and recorded: the identity asked for, in the instance of the node proxy.
   * Throws an opaque UNAUTHENTICATED with the reason as its cause, IDENTITY_SOURCE_UNAVAILABLE where it can't be told now,
   * and what policy refuses the node proxy itself with.
   */
  as(caller: Caller, asked: string, signal: AbortSignal): Promise<Caller>;
  /** Durable when it resolves. */
  audit(caller: Caller, identity: SpiffeId, serial: string): Promise<void>;
}

export interface ImpersonationDeps {
  readonly trustDomain: TrustDomain;
  /** SPIFFE paths of the accounts that may ask at all. */
  readonly nodeAccounts: () => ReadonlySet<string>;
  /** What knows the cluster of this issuer. Without it nothing can be proved, and nobody is impersonated. */
  readonly podsOf: (issuer: string) => PodsOnNode | undefined;
  /** Whether the caller's issuer may make this identity: no cluster's proxy may speak for another's pods. */
  readonly mayMake: (issuer: string, identity: SpiffeId) => boolean;
  /** Throws if policy refuses this caller. */
  readonly allowed: (caller: Caller) => void;
  readonly append: (entry: AuditEntry) => Promise<void>;
  readonly clock: Clock;
}

const checkMs = 5000;

export function createImpersonation(deps: ImpersonationDeps): Impersonation {
  /** Who passes may ask; whether for this identity is for the node to prove. */
  function requirements(caller: Caller, asked: string): { readonly identity: SpiffeId; readonly pod: Pod; readonly pods: PodsOnNode } {
    if (!deps.nodeAccounts().has(pathOf(caller.spiffeId))) throw refused('the caller is not among policy.trustedNodeAccounts');
    if (caller.authenticatedBy !== 'token') throw refused('the caller showed a certificate: only a token names its pod');
    if (!isSpiffeId(asked)) throw refused('what is asked for is no SPIFFE ID');
    if (trustDomainOf(asked) !== deps.trustDomain) throw refused('the identity asked for is of another trust domain');
    if (!deps.mayMake(caller.issuer, asked)) throw refused("the identity asked for is none that the caller's issuer may make");
    if (!caller.pod) throw refused("the caller's token names no pod");
    const pods = deps.podsOf(caller.issuer);
    if (!pods) throw refused('nothing here knows which pods run on the node of the caller: its issuer has neither tokenReview nor pods');
    return { identity: asked, pod: caller.pod, pods };
  }

  async function onNode(checker: PodsOnNode, pod: Pod, identity: SpiffeId, signal: AbortSignal): Promise<OnNode> {
    const bounded = deadlineSignal(checkMs, signal);
    try {
      return await abortable(checker.check(pod, identity, bounded), bounded);
    } catch (error) {
      if (signal.aborted) throw error;
      throw new SignetError('IDENTITY_SOURCE_UNAVAILABLE', 'which pods run on this node can not be told now', {
        cause: error,
        retryAfterMs: 1000,
      });
    }
  }

  return {
    async as(caller, asked, signal) {
      deps.allowed(caller);
      const { identity, pod, pods: checker } = requirements(caller, asked);
      const answer = await onNode(checker, pod, identity, signal);
      if (!answer.proved) throw refused(`no pod with the identity asked for is proved on the node of the caller: ${answer.why}`);
      // No token of this identity was seen, ever: its certificate alone must not renew it, or what was proved once would be
      // believed for days after the pod has left the node.
      return { ...caller, spiffeId: identity, tokenSeenAt: 0, pod: undefined };
    },
    audit: (caller, identity, serial) =>
      deps.append({
        at: deps.clock.now(),
        actor: caller.spiffeId,
        action: 'certificate.impersonate',
        subject: identity,
        detail: `serial ${serial} for the node proxy ${caller.pod ? `${caller.pod.namespace}/${caller.pod.name}` : ''}`,
      }),
  };
}

/** Opaque, and the code of a failed authentication, as Istio's CA answers it. */
function refused(why: string): SignetError {
  return new SignetError('UNAUTHENTICATED', 'authentication failed', { cause: new Error(`impersonation refused: ${why}`) });
}
