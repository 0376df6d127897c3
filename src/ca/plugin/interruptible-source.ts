import { SignetError } from '../../base/errors.ts';
import type { PluginEndpoint, PluginSource } from './plugin-source.ts';

/** A source whose plugin can be taken away and given back: an outage, for conformance. */
export interface InterruptibleSource extends PluginSource {
  /** Ends the plugin; none is started until `start`. */
  stop(): Promise<void>;
  start(): Promise<void>;
}

export function interruptible(source: PluginSource): InterruptibleSource {
  const running = new Set<PluginEndpoint>();
  let stopped = false;
  return {
    retry: source.retry,
    async acquire(signal) {
      if (stopped) throw new SignetError('AUTHORITY_UNAVAILABLE', 'the plugin was stopped for this case');
      const endpoint = await source.acquire(signal);
      running.add(endpoint);
      return {
        ...endpoint,
        async release() {
          running.delete(endpoint);
          await endpoint.release();
        },
      };
    },
    async stop() {
      stopped = true;
      await Promise.all([...running].map((endpoint) => endpoint.release()));
    },
    start() {
      stopped = false;
      return Promise.resolve();
    },
  };
}
