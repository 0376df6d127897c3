/**
 * `signet server` with a CA that can be made to hang or to fail: the real composition, and one thing before its authority.
 * Run as a child with an IPC channel, by which it is told what the CA does.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { SignetError } from '../../src/base/errors.ts';
import type { Authority, SignedChain } from '../../src/ca/authority.ts';
import { loadConfig } from '../../src/server/config/load.ts';
import { startServer } from '../../src/server/start.ts';

export type AuthorityState = 'works' | 'slow' | 'hangs' | 'fails';

/** What a slow one takes for a signature. */
const slowMs = 100;

/** What the CA backend of this name does from now on; all of them, if none is named. */
export interface AuthorityOrder {
  readonly state: AuthorityState;
  readonly name?: string | undefined;
}

let all: AuthorityState = 'works';
const byName = new Map<string, AuthorityState>();
process.on('message', ({ state, name }: AuthorityOrder) => {
  if (name === undefined) {
    all = state;
    byName.clear();
  } else {
    byName.set(name, state);
  }
  process.send?.(state);
});

function unreliable(authority: Authority): Authority {
  const now = (): AuthorityState => byName.get(authority.name) ?? all;
  return {
    ...authority,
    // It may hang, so that it is no longer one that signs within this turn of the loop.
    capabilities: { ...authority.capabilities, builtHere: false },
    async sign(request, signal): Promise<SignedChain> {
      const state = now();
      if (state === 'fails') throw new SignetError('AUTHORITY_UNAVAILABLE', 'the CA is away');
      if (state === 'slow') await sleep(slowMs);
      if (state === 'hangs') {
        await new Promise((_, reject) => {
          signal.addEventListener('abort', () => {
            reject(SignetError.from(signal.reason));
          });
        });
      }
      return authority.sign(request, signal);
    },
  };
}

const [file, data, leafTtl] = process.argv.slice(2);
const flags = { data, 'listen.grpc': '127.0.0.1:0', 'listen.http': '127.0.0.1:0', 'policy.tiers.dev': leafTtl };
const config = await loadConfig({ file, env: {}, dev: true, flags });
const server = await startServer(config, { dev: true, beforeAuthority: unreliable });
process.stdout.write(`ready pid=${String(process.pid)} grpc=${server.grpcAddress} http=${server.httpAddress} admin=${server.adminPath}\n`);
process.once('SIGTERM', () => {
  void server.close().then(() => {
    process.disconnect();
  });
});
