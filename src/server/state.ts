import type { Clock } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { KeySeal } from '../ca/key-seal.ts';
import { newKeyEncryptionKey } from '../ca/key-seal.ts';
import type { KeySecret } from '../ca/open-key-seal.ts';
import { openKeySeal } from '../ca/open-key-seal.ts';
import type { TrustDomain } from '../spiffe/id.ts';
import { createFile } from '../store/atomic-file.ts';
import type { DataFolder } from '../store/data-folder.ts';
import { openDataFolder } from '../store/data-folder.ts';
import { openSqliteStore } from '../store/sqlite/sqlite-store.ts';
import type { Store } from '../store/store.ts';
import type { Config } from './config/schema.ts';
import { readSecret } from '../base/secret-file.ts';

/** The data folder, held by this process alone until it is closed. */
export interface State {
  readonly folder: DataFolder;
  readonly store: Store;
  readonly seal: KeySeal;
  close(): Promise<void>;
}

/** Folder first, then the store with its lock, then what unseals the CA keys: nothing is touched before it is known to be ours. */
export async function openState(parts: {
  readonly config: Config;
  readonly trustDomain: TrustDomain;
  readonly dev: boolean;
  readonly clock: Clock;
  readonly log: Log;
}): Promise<State> {
  const { config, clock, log } = parts;
  const folder = openDataFolder({ directory: config.data, mode: parts.dev ? 'dev' : 'production', trustDomain: parts.trustDomain });
  let store: Store | undefined;
  try {
    store = await openSqliteStore({ file: config.store.path ?? folder.database, clock, log });
    const seal = await openKeySeal({ state: store.trust, secret: await keySecret(config, folder) });
    const opened = store;
    return {
      folder,
      store,
      seal,
      async close() {
        await opened.close();
        folder.close();
      },
    };
  } catch (error) {
    await store?.close();
    folder.close();
    throw error;
  }
}

/** Where the configuration says the secret is; in dev mode, if it says nothing, a generated one beside the data. */
async function keySecret(config: Config, folder: DataFolder): Promise<KeySecret> {
  const { keyFile, keyEnvironment, passphraseFile } = config.ca.keyEncryption;
  if (keyFile !== undefined) return { key: await readSecret('ca.keyEncryption.keyFile', keyFile) };
  if (passphraseFile !== undefined) return { passphrase: await readSecret('ca.keyEncryption.passphraseFile', passphraseFile) };
  if (keyEnvironment !== undefined) {
    const key = process.env[keyEnvironment];
    if (key === undefined || key === '') {
      throw new SignetError('CONFIG_INVALID', `ca.keyEncryption.keyEnvironment: the environment variable ${keyEnvironment} is not set`);
    }
    return { key: key.trim() };
  }
  // config/cross-check.ts requires one of the three outside dev mode; a data folder of the other mode is refused above.
  createFile(folder.kek, `${newKeyEncryptionKey()}\n`);
  return { key: await readSecret('the development key-encryption key', folder.kek) };
}
