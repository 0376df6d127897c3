import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A folder of its own, with a short path (a unix socket's has at most 107 bytes), gone with `await using`. */
export interface TempFolder extends AsyncDisposable {
  readonly path: string;
  file(name: string): string;
}

export async function tempFolder(): Promise<TempFolder> {
  const path = await mkdtemp(join(tmpdir(), 'signet-'));
  return {
    path,
    file: (name) => join(path, name),
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true, maxRetries: 3 }),
  };
}

/** As a careful writer does it: nobody ever reads half of it, and Envoy notices the move. */
export async function replaceFile(path: string, text: string, mode = 0o600): Promise<void> {
  const next = `${path}.next`;
  await writeFile(next, text, { mode });
  await rename(next, path);
}
