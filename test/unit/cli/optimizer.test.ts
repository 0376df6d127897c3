import assert from 'node:assert/strict';
import { readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { runProgram } from '../../support/process.ts';
import { tempFolder } from '../../support/temp.ts';

const own = (name: string): string => JSON.stringify(new URL(`../../../src/cli/${name}`, import.meta.url).href);

test('a server that has the optimizer begin sooner leaves compiled modules that its next start can use', async () => {
  await using folder = await tempFolder();
  const cache = folder.file('cache');
  const module = folder.file('module.mjs');
  await writeFile(module, `export const names = [${Array.from({ length: 500 }, (_, i) => `'name ${String(i)}'`).join()}];\n`);
  const role = folder.file('role.mjs');
  await writeFile(
    role,
    `const { useCompileCache } = await import(${own('compile-cache.ts')});
const { optimizeSooner } = await import(${own('optimizer.ts')});
useCompileCache(${JSON.stringify(cache)});
const { names } = await import(${JSON.stringify(pathToFileURL(module).href)});
optimizeSooner();
console.log(names.length);
`,
  );
  const run = async (): Promise<void> => {
    const { stdout, stderr } = await runProgram(process.execPath, [role], {});
    assert.deepEqual({ stdout, stderr }, { stdout: '500\n', stderr: '' });
  };
  // A module that was found unusable is compiled again, and written again.
  const written = async (): Promise<Record<string, bigint>> => {
    const files = (await readdir(cache, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
    const times = files.map(
      async ({ parentPath, name }) => [name, (await stat(join(parentPath, name), { bigint: true })).mtimeNs] as const,
    );
    return Object.fromEntries(await Promise.all(times));
  };
  await run();
  const first = await written();
  assert.equal(Object.keys(first).length, 1);
  await run();
  assert.deepEqual(await written(), first);
});
