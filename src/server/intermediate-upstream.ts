import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { IntermediateUpstream } from '../ca/intermediate/upstream.ts';
import type { BackendConfig } from './config/schema.ts';

type UpstreamConfig = Extract<BackendConfig, { readonly type: 'intermediate' }>['upstream'];

/** The CA above the intermediate of the backend `name`. Its code is loaded only if it is used. */
export async function openIntermediateUpstream(
  name: string,
  upstream: UpstreamConfig,
  { clock, log }: { readonly clock: Clock; readonly log: Log },
): Promise<IntermediateUpstream> {
  const { openSignetUpstream } = await import('../ca/signet/signet-upstream.ts');
  return openSignetUpstream({ name, settings: upstream, clock, random: Math.random, log });
}
