import { createHash } from 'node:crypto';
import { globSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cached, install } from './test-cache.ts';

const source = fileURLToPath(new URL('../../examples/plugins/go/', import.meta.url));

/** The Go template, built once for each state of its sources. */
export async function goPlugin(): Promise<string> {
  const hash = createHash('sha256');
  for (const file of globSync(['*.go', '*/*.go', 'go.*'], { cwd: source }).toSorted()) hash.update(await readFile(join(source, file)));
  const folder = await cached(`plugin-go-${hash.digest('hex').slice(0, 16)}`, (to) =>
    install('go', ['-C', source, 'build', '-trimpath', '-ldflags=-s -w', '-o', to, '.']),
  );
  return join(folder, 'signet-plugin');
}
