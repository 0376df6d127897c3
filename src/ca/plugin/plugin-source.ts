import type { BackoffLimits } from '../../base/backoff.ts';
import type { PluginTarget } from './plugin-client.ts';

/** A plugin that runs and can be called. */
export interface PluginEndpoint extends PluginTarget {
  /**
   * Aborts when it can't be called any more, with a SignetError that says why; or with `renewed`, when it still can but a new
   * one should take its place.
   */
  readonly gone: AbortSignal;
  /** Ends what was started for it. */
  release(): Promise<void>;
}

/** Why an endpoint is given up although it works. */
export const renewed = Symbol('renewed');

/** Where a plugin comes from: a command to run, a socket, an address. */
export interface PluginSource {
  /** How soon to acquire again after a fault. A try costs little, or a start of a process. */
  readonly retry: BackoffLimits;
  /** Throws AUTHORITY_UNAVAILABLE or AUTHORITY_MISCONFIGURED, saying what to do. */
  acquire(signal: AbortSignal): Promise<PluginEndpoint>;
}
