import type { Authority } from '../authority.ts';

/** Who certifies a CA key of ours: what an authority that can do that is to us. It need not sign anything else. */
export interface IntermediateUpstream extends Pick<Authority, 'type' | 'anchors' | 'health' | 'onChange' | 'close'> {
  /** Whether it certifies with path length 0, so that nothing but leaves can be below. */
  readonly forLeavesOnly: boolean;
  readonly signIntermediate: NonNullable<Authority['signIntermediate']>;
}
