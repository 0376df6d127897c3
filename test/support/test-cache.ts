import { access, mkdir, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { runProgram } from './process.ts';

const installMs = 600_000;

/**
 * A folder that outlives the clone, for what is slow to install or build: made once, by name and version. A virtual
 * environment can't be moved, so everything is made in its final place, and a mark says that it is complete.
 */
export async function cached(name: string, install: (folder: string) => Promise<void>): Promise<string> {
  const folder = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'signet-test', name);
  const mark = join(folder, 'complete');
  if (await exists(mark)) return folder;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await install(folder);
  await mkdir(mark);
  return folder;
}

/** Runs an installer. What can't be had is an error, never a skip. */
export async function install(file: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<void> {
  const ran = await runProgram(file, args, { env: { ...process.env, ...env }, timeoutMs: installMs });
  if (ran.code !== 0) throw new Error(`${file} ${args.join(' ')} failed: ${ran.stderr.slice(-2000)}`);
}

/** A virtual environment of Python in `folder`, with the packages named. */
export async function installPython(folder: string, ...packages: readonly string[]): Promise<void> {
  await install('python3', ['-m', 'venv', folder]);
  await install(join(folder, 'bin', 'pip'), ['install', '--quiet', '--disable-pip-version-check', ...packages]);
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
