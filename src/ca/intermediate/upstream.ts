import type { Authority } from '../authority.ts';

/** Who certifies a CA key of ours: what an authority that can do that is to us. It need not sign anything else. */
export interface IntermediateUpstream extends Pick<Authority, 'type' | 'anchors' | 'health' | 'onChange' | 'close'> {
  readonly signIntermediate: NonNullable<Authority['signIntermediate']>;
}
