import { readFile } from 'node:fs/promises';
import type { SpireServer } from './engines/spire-server.ts';
import { replaceFile } from './temp.ts';
import type { TempFolder } from './temp.ts';

export type SpireFiles = Readonly<Record<'caFile' | 'certificateFile' | 'keyFile', string>>;

/** What spiffe-helper keeps: an X.509-SVID of this path, its key and the bundle, under names of ours. */
export async function keepSpireFiles(spire: SpireServer, folder: TempFolder, path: string, ttl?: string): Promise<SpireFiles> {
  const minted = await spire.mint(path, ttl);
  const files = { caFile: folder.file('bundle.pem'), certificateFile: folder.file('svid.pem'), keyFile: folder.file('key.pem') };
  for (const [name, file] of [
    ['key.pem', files.keyFile],
    ['svid.pem', files.certificateFile],
    ['bundle.pem', files.caFile],
  ] as const)
    await replaceFile(file, await readFile(`${minted}/${name}`, 'utf8'));
  return files;
}
