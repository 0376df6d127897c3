import { SignetError } from '../../src/base/errors.ts';
import type { OnNode, PodsOnNode } from '../../src/api/impersonation.ts';
import type { Pod } from '../../src/identity/caller.ts';

/** Knows what a test tells it of one node, instead of asking a Kubernetes API. */
export interface FakePodsOnNode extends PodsOnNode {
  /** The uid of the node proxy's pod, and the identities of the pods beside it. */
  node: { readonly proxy: string; readonly identities: ReadonlySet<string> };
  conduct: 'good' | 'hang' | 'away';
  readonly asked: { readonly caller: Pod; readonly identity: string }[];
}

export function fakePodsOnNode(proxy: string, identities: readonly string[]): FakePodsOnNode {
  const fake: FakePodsOnNode = {
    node: { proxy, identities: new Set(identities) },
    conduct: 'good',
    asked: [],
    async check(caller, identity): Promise<OnNode> {
      fake.asked.push({ caller, identity });
      if (fake.conduct === 'hang') await new Promise<never>(() => undefined);
      if (fake.conduct === 'away') throw new SignetError('IDENTITY_SOURCE_UNAVAILABLE', 'the API server is away at 10.0.0.9');
      if (caller.uid !== fake.node.proxy) return { proved: false, why: 'the node proxy has another uid now' };
      return fake.node.identities.has(identity) ? { proved: true } : { proved: false, why: 'no such pod runs there' };
    },
  };
  return fake;
}
