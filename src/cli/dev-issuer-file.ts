import { open } from 'node:fs/promises';
import type { Clock } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { DevIssuer } from '../identity/dev-issuer.ts';
import { openDevIssuer } from '../identity/dev-issuer.ts';
import { dataFolderPaths } from '../store/data-folder.ts';

/** Far more than a P-256 key needs. */
const largestKeyFile = 16 * 1024;

/** The development issuer of a data folder. Throws NOT_FOUND, saying what to do, where there is none. */
export async function openDataFolderIssuer(directory: string, clock: Clock): Promise<DevIssuer> {
  const file = dataFolderPaths(directory).issuerKey;
  return openDevIssuer(await readKey(file, directory), { clock });
}

async function readKey(file: string, directory: string): Promise<string> {
  try {
    const handle = await open(file, 'r');
    try {
      if ((await handle.stat()).size > largestKeyFile)
        throw new SignetError('TOO_LARGE', `${file} is no issuer key: it is larger than 16 KiB`);
      return await handle.readFile('utf8');
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    throw new SignetError(
      'NOT_FOUND',
      `there is no development issuer in ${directory}: start \`signet server --dev --data ${directory}\` first, or name its folder with --data`,
    );
  }
}
