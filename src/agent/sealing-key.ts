import { join } from 'node:path';
import { SignetError } from '../base/errors.ts';
import { readSecret } from '../base/secret-file.ts';
import type { KeySeal } from '../ca/key-seal.ts';
import { keySealFromKey } from '../ca/key-seal.ts';

const environmentName = 'SIGNET_SEALING_KEY';
const credentialName = 'signet-sealing-key';

/**
 * What seals the cache: a key from a file, from the environment, or from systemd (LoadCredential=, systemd.exec(5)), in
 * this order; undefined where there is none. It is taken out of the environment, which child processes would inherit.
 * Throws CONFIG_INVALID naming where the key came from, and nothing of it.
 */
export async function openSealingKey(file: string | undefined, env: NodeJS.ProcessEnv): Promise<KeySeal | undefined> {
  const inEnvironment = env[environmentName];
  Reflect.deleteProperty(env, environmentName);
  if (file !== undefined) return sealBy('cache.sealingKeyFile', await readSecret('cache.sealingKeyFile', file));
  if (inEnvironment !== undefined && inEnvironment !== '') return sealBy(environmentName, inEnvironment);
  const credentials = env.CREDENTIALS_DIRECTORY;
  if (credentials === undefined) return undefined;
  try {
    const where = `the systemd credential ${credentialName}`;
    return sealBy(where, await readSecret(where, join(credentials, credentialName)));
  } catch (error) {
    // Other credentials may be there for other programs.
    if (isMissing(error)) return undefined;
    throw error;
  }
}

function sealBy(where: string, key: string): KeySeal {
  try {
    return keySealFromKey(key);
  } catch (error) {
    throw new SignetError('CONFIG_INVALID', `${where}: a sealing key is 32 random bytes in base64: head -c32 /dev/urandom | base64 -w0`, {
      cause: error,
    });
  }
}

function isMissing(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
}
