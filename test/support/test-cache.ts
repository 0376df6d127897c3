import { createHash } from 'node:crypto';
import { access, mkdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { runProgram } from './process.ts';

const installMs = 600_000;

/** Where what is slow to get is kept. */
export function testCache(): string {
  return join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'signet-test');
}

/**
 * A folder that outlives the clone, for what is slow to install or build: made once, by name and version. A virtual
 * environment can't be moved, so everything is made in its final place, and a mark says that it is complete.
 */
export async function cached(name: string, install: (folder: string) => Promise<void>): Promise<string> {
  const folder = join(testCache(), name);
  const mark = join(folder, 'complete');
  if (await exists(mark)) return folder;
  await using _turn = await turnAt(folder);
  if (await exists(mark)) return folder;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await install(folder);
  await mkdir(mark);
  return folder;
}

/**
 * Test files are processes that run side by side, and one of them builds. The lock is a name among Linux's abstract sockets:
 * it goes with its holder, however that one ends.
 */
async function turnAt(folder: string): Promise<AsyncDisposable> {
  const name = `\0signet-test-${createHash('sha256').update(folder).digest('hex')}`;
  for (;;) {
    const lock = createServer();
    const listening = new Promise<boolean>((resolve, reject) => {
      lock.once('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'EADDRINUSE') resolve(false);
        else reject(error);
      });
      lock.listen(name, () => {
        resolve(true);
      });
    });
    if (await listening) {
      return {
        [Symbol.asyncDispose]: async () => {
          await new Promise((resolve) => lock.close(resolve));
        },
      };
    }
    await sleep(500);
  }
}

/** Runs an installer. What can't be had is an error, never a skip. */
export async function install(file: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<void> {
  await runOrFail(file, args, { env: { ...process.env, ...env } });
}

/** Runs a program that must succeed, and gives its stdout; the error has the end of its stderr. */
export async function runOrFail(
  file: string,
  args: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv; readonly timeoutMs?: number } = {},
): Promise<string> {
  const ran = await runProgram(file, args, { timeoutMs: installMs, ...options });
  if (ran.code !== 0) throw new Error(`${file} ${args.join(' ')} failed (${String(ran.code)}): ${ran.stderr.slice(-2000)}`);
  return ran.stdout;
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
