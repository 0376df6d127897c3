import type { Clock } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Authority } from '../ca/authority.ts';
import type { IntermediateUpstream } from '../ca/intermediate/upstream.ts';
import type { TrustDomain } from '../spiffe/id.ts';
import type { BackendConfig } from './config/schema.ts';

type IntermediateConfig = Extract<BackendConfig, { readonly type: 'intermediate' }>;

/** The CA above the intermediate of the backend `name`. Its code is loaded only if it is used. */
export async function openIntermediateUpstream(
  name: string,
  { upstream, anchors, approvedAnchors }: IntermediateConfig,
  { trustDomain, clock, log }: { readonly trustDomain: TrustDomain; readonly clock: Clock; readonly log: Log },
): Promise<IntermediateUpstream> {
  switch (upstream.type) {
    case 'signet': {
      const { openSignetUpstream } = await import('../ca/signet/signet-upstream.ts');
      return openSignetUpstream({ name, settings: upstream, clock, random: Math.random, log });
    }
    case 'spire': {
      const { openSpireUpstream } = await import('../ca/spire/spire-upstream.ts');
      return openSpireUpstream({ name, trustDomain, settings: upstream, clock, random: Math.random, log });
    }
    case 'vault': {
      const { openVaultAuthority } = await import('../ca/vault/vault-authority.ts');
      return certifying(await openVaultAuthority({ name, trustDomain, settings: { ...upstream, anchors, approvedAnchors }, clock, log }));
    }
  }
}

/** An authority that can certify CAs, as what stands above an intermediate. */
function certifying(authority: Authority): IntermediateUpstream {
  const { signIntermediate } = authority;
  if (!signIntermediate) throw new SignetError('INTERNAL', `backends of type ${authority.type} can't certify CAs`);
  return { ...authority, signIntermediate, forLeavesOnly: true };
}
