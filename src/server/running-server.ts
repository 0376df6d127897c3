import type { Closing } from '../base/closing.ts';
import type { Authority } from '../ca/authority.ts';
import type { Config } from './config/schema.ts';

export interface RunningServer {
  readonly grpcAddress: string;
  readonly httpAddress: string;
  readonly adminPath: string;
  /** Takes up another configuration, whole or not at all; a failure is logged and counted. Says whether it is in force. */
  reload(load: () => Promise<Config>): Promise<boolean>;
  /** Ends streams with OK, lets calls end, and gives the data folder back. Once. */
  close(): Promise<void>;
  /** Resolves when the server has closed. */
  readonly closed: Promise<void>;
}

export interface StartOptions {
  readonly dev: boolean;
  readonly signal?: AbortSignal;
  /** Stands before each CA backend: how tests make a CA hang and fail. */
  readonly beforeAuthority?: (authority: Authority) => Authority;
}

/** Closing once, whoever asks, and who waits for it. */
export function closedOnce(closing: Closing): Pick<RunningServer, 'close' | 'closed'> {
  const closed = Promise.withResolvers<undefined>();
  let run: Promise<void> | undefined;
  return {
    close() {
      run ??= closing.run().finally(() => {
        closed.resolve(undefined);
      });
      return run;
    },
    closed: closed.promise,
  };
}
