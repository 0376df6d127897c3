import { accessSync, closeSync, constants, existsSync, fstatSync, mkdirSync, openSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { SignetError } from '../base/errors.ts';
import type { TrustDomain } from '../spiffe/id.ts';
import { createFile } from './atomic-file.ts';

export type FolderMode = 'dev' | 'production';

export interface DataFolderPaths {
  readonly directory: string;
  readonly database: string;
  readonly serverCa: string;
  readonly bundle: string;
  readonly adminSocket: string;
  /** Dev mode only. */
  readonly issuerKey: string;
  /** Dev mode only: in production the key-encryption key is kept elsewhere. */
  readonly kek: string;
  readonly manifest: string;
}

export interface DataFolder extends DataFolderPaths {
  close(): void;
}

/** The layout of the folder; a program that knows another number leaves it alone. */
const format = 1;
const longestManifest = 4096;
const manifestSchema = z.strictObject({ format: z.int().positive(), mode: z.enum(['dev', 'production']), trustDomain: z.string() });
type Manifest = z.infer<typeof manifestSchema>;

export function dataFolderPaths(directory: string): DataFolderPaths {
  const at = resolve(directory);
  return {
    directory: at,
    database: join(at, 'signet.db'),
    serverCa: join(at, 'server-ca.pem'),
    bundle: join(at, 'bundle.pem'),
    adminSocket: join(at, 'admin.sock'),
    issuerKey: join(at, 'issuer.key'),
    kek: join(at, 'key-encryption.key'),
    manifest: join(at, 'folder.json'),
  };
}

/**
 * Makes the folder (0700) and its manifest, or checks those that are there, before anything in it is touched. The
 * admin socket is guarded by the folder's mode alone, and the database holds CA keys: so nobody else may even look in.
 * Throws STORE_MISMATCH (another mode, trust domain or format), STORE_CORRUPT (a bad manifest) or CONFIG_INVALID (owner,
 * mode, not writable), each with advice.
 */
export function openDataFolder(options: {
  readonly directory: string;
  readonly mode: FolderMode;
  readonly trustDomain: TrustDomain;
}): DataFolder {
  const paths = dataFolderPaths(options.directory);
  const { directory } = paths;
  const handle = openFolder(directory);
  try {
    checkOwner(handle, directory);
    const own: Manifest = { format, mode: options.mode, trustDomain: options.trustDomain };
    checkManifest(readManifest(paths) ?? writeManifest(paths, own), own, directory);
    if (options.mode === 'production' && existsSync(paths.kek)) {
      throw new SignetError(
        'STORE_MISMATCH',
        `${paths.kek} lies beside the data that it encrypts: move it out of the folder, and name it in the configuration or give a passphrase`,
      );
    }
  } catch (error) {
    closeSync(handle);
    throw error;
  }
  return {
    ...paths,
    close() {
      closeSync(handle);
    },
  };
}

/** A handle on the folder: what is checked through it can't be exchanged for another folder meanwhile. */
function openFolder(directory: string): number {
  try {
    makeFolder(directory);
    const handle = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
    accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK);
    return handle;
  } catch (error) {
    throw new SignetError(
      'CONFIG_INVALID',
      `the data folder ${directory} can't be made or written to (${reasonOf(error)}): give a folder that this user may write to`,
      { cause: error },
    );
  }
}

/** With the folders above it. Node's own recursive mkdir never returns below /proc, where mkdir says ENOENT of a folder that is there. */
function makeFolder(directory: string): void {
  if (existsSync(directory)) return;
  if (!existsSync(dirname(directory))) makeFolder(dirname(directory));
  try {
    mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    // Another server that starts at this moment may have been first.
    if (!existsSync(directory)) throw error;
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason';
}

function checkOwner(handle: number, directory: string): void {
  const { uid, mode } = fstatSync(handle);
  const own = process.geteuid?.();
  if (own !== undefined && uid !== own) {
    throw new SignetError(
      'CONFIG_INVALID',
      `the data folder ${directory} belongs to user ${String(uid)}, not to the user ${String(own)} that runs Signet: chown it, or run as its owner`,
    );
  }
  if ((mode & 0o077) !== 0) {
    const found = (mode & 0o777).toString(8).padStart(4, '0');
    throw new SignetError('CONFIG_INVALID', `the data folder ${directory} has mode ${found}; it must be 0700: chmod 700 ${directory}`);
  }
}

function readManifest({ manifest, database }: DataFolderPaths): Manifest | undefined {
  if (!existsSync(manifest)) {
    if (!existsSync(database)) return undefined;
    throw new SignetError('STORE_CORRUPT', `${database} is there but ${manifest} is not: restore the whole folder from a backup`);
  }
  try {
    if (statSync(manifest).size > longestManifest) throw new Error('too long');
    return manifestSchema.parse(JSON.parse(readFileSync(manifest, 'utf8')));
  } catch (error) {
    throw new SignetError('STORE_CORRUPT', `${manifest} can't be read or is not what Signet wrote: restore it from a backup`, {
      cause: error,
    });
  }
}

/** Of two servers that start at once on an empty folder, one writes and both go by what it wrote. */
function writeManifest(paths: DataFolderPaths, manifest: Manifest): Manifest {
  if (createFile(paths.manifest, `${JSON.stringify(manifest, null, 2)}\n`)) return manifest;
  return readManifest(paths) ?? manifest;
}

function checkManifest(found: Manifest, own: Manifest, directory: string): void {
  if (found.format > own.format) {
    throw new SignetError('STORE_MISMATCH', `the data folder ${directory} was made by a newer Signet: run that version or newer`);
  }
  if (found.trustDomain !== own.trustDomain) {
    throw new SignetError(
      'STORE_MISMATCH',
      `the data folder ${directory} belongs to the trust domain ${found.trustDomain}, but the configuration says ${own.trustDomain}: correct trustDomain, or give another folder`,
    );
  }
  if (found.mode !== own.mode) {
    throw new SignetError(
      'STORE_MISMATCH',
      found.mode === 'dev'
        ? `the data folder ${directory} was made with --dev, so its keys are not protected: start with --dev, or give another folder`
        : `the data folder ${directory} is a production folder: start without --dev, or give another folder`,
    );
  }
}
