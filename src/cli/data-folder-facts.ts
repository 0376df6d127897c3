import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { SignetError } from '../base/errors.ts';
import { dataFolderPaths } from '../store/data-folder.ts';

const manifest = z.object({ trustDomain: z.string() });

/** The trust domain that a data folder belongs to; the server need not run. Throws NOT_FOUND, saying what to do. */
export function folderTrustDomain(directory: string): string {
  const file = dataFolderPaths(directory).manifest;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new SignetError('NOT_FOUND', `${directory} is no data folder of a server: name it with --data, or give --ca and --trust-domain`, {
      cause: error,
    });
  }
  try {
    return manifest.parse(JSON.parse(text)).trustDomain;
  } catch (error) {
    throw new SignetError('STORE_CORRUPT', `${file} is not what Signet wrote`, { cause: error });
  }
}
