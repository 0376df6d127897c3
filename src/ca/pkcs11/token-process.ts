import { fork } from 'node:child_process';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { z } from 'zod';
import { SignetError } from '../../base/errors.ts';
import { tokenAnswer } from './messages.ts';
import type { Numbered, TokenRequest } from './messages.ts';

/** A process with a PKCS#11 module in it. What goes wrong with the token ends it; another one begins anew. */
export interface TokenProcess {
  /** One call; the answer is checked. Throws as a Signer does; `staleOf` tells of an error whether opening anew helps. */
  call<T>(request: TokenRequest, answer: z.ZodType<T>, timeoutMs?: number): Promise<T>;
  /** False once it has ended, or has been ended. */
  readonly alive: boolean;
  /** Fails what is under way; `stale`: as something that opening anew helps against. */
  end(stale?: boolean): void;
}

/** As much as a slow HSM may take for anything but making an RSA key; a module that hangs longer won't come back. */
const stuckMs = 30_000;

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: SignetError) => void;
  readonly timer: NodeJS.Timeout;
}

const staleErrors = new WeakSet<SignetError>();

/** Whether the token is there and only what the process had with it is gone. */
export function isStaleError(error: unknown): boolean {
  return error instanceof SignetError && staleErrors.has(error);
}

/** `threads`: each signature under way takes one. */
export function startTokenProcess(threads: number, env: Readonly<Record<string, string | undefined>>): TokenProcess {
  // In the published package it is compiled.
  const main = fileURLToPath(new URL(`./token-process-main${extname(import.meta.url)}`, import.meta.url));
  const child = fork(main, [], {
    serialization: 'advanced',
    env: { ...withoutSecrets(env), UV_THREADPOOL_SIZE: String(threads) },
    execArgv: [],
    // Nothing of a vendor's tracing gets onto our stdout or into our log: PINs have been seen in such.
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  child.unref();
  child.channel?.unref();
  const pending = new Map<number, Pending>();
  let count = 0;
  let alive = true;

  function over(what: string, stale = false): void {
    if (!alive) return;
    alive = false;
    child.kill('SIGKILL');
    for (const { reject } of pending.values()) reject(lost(what, stale));
  }

  child.on('message', (message) => {
    const { data } = tokenAnswer.safeParse(message);
    const waiting = data && pending.get(data.id);
    if (!data || !waiting) {
      over('its answer is not one');
      return;
    }
    if ('value' in data) waiting.resolve(data.value);
    else {
      const error = new SignetError(data.error.code, data.error.message);
      if (data.error.stale) staleErrors.add(error);
      waiting.reject(error);
    }
  });
  child.on('error', () => {
    over('it could not be started');
  });
  child.on('exit', (code, signal) => {
    over(`it ended by ${signal ?? `exit code ${String(code)}`}`);
  });

  return {
    async call(request, answer, timeoutMs = stuckMs) {
      if (!alive) throw lost('it has ended', true);
      const id = count++;
      // While something is under way, the loop goes on.
      if (pending.size === 0) child.channel?.ref();
      try {
        const value = await new Promise<unknown>((resolve, reject) => {
          const timer = setTimeout(() => {
            over(`it did not answer in ${String(timeoutMs / 1000)} s`);
          }, timeoutMs);
          pending.set(id, { resolve, reject, timer });
          const message: Numbered<TokenRequest> = { ...request, id };
          child.send(message, (error) => {
            if (error) over('it takes no more requests');
          });
        });
        return answer.parse(value);
      } finally {
        clearTimeout(pending.get(id)?.timer);
        pending.delete(id);
        if (pending.size === 0) child.channel?.unref();
      }
    },
    get alive() {
      return alive;
    },
    end(stale) {
      over('it was closed', stale);
    },
  };
}

function lost(what: string, stale = false): SignetError {
  const error = new SignetError('AUTHORITY_UNAVAILABLE', `PKCS#11: the process with the module is gone: ${what}`);
  if (stale) staleErrors.add(error);
  return error;
}

/** Names that sound like a secret, and those by which clouds and Vault hand out credentials. */
const secretNames = /^(?:SIGNET_|NODE_OPTIONS$|AWS_|GOOGLE_|VAULT_|BAO_)|SECRET|TOKEN|PASSW|PASSPHRASE|CREDENTIAL|PRIVATE|_KEY$|_PIN$|KEK/i;

/** The module may need its vendor's variables, but nothing of ours or of others that may be a secret. */
function withoutSecrets(env: Readonly<Record<string, string | undefined>>): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !secretNames.test(name)));
}
