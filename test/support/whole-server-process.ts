import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { endChild, keepTrack, runProgram } from './process.ts';
import type { Ran } from './process.ts';
import { openDoors } from './whole-server.ts';
import type { Doors, WholeFolder } from './whole-server.ts';

const bin = fileURLToPath(new URL('../../bin/signet.js', import.meta.url));

/** What a start needs of the environment, without any SIGNET_ variable of ours. */
function plainEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SIGNET_')));
}

/** `signet server` as its user runs it, in a process of its own. */
export interface ServerProcess extends AsyncDisposable {
  readonly pid: number;
  readonly doors: Doors;
  readonly stderr: () => string;
  /** Resolves once it is gone (what it sent last may still be on its way to the clients), with its exit code; undefined if a signal ended it. */
  end(signal: NodeJS.Signals): Promise<number | undefined>;
}

export async function serverProcess(folder: WholeFolder, configFile = folder.configFile): Promise<ServerProcess> {
  const child = spawn(process.execPath, [bin, 'server', '--config', configFile], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: plainEnvironment(),
  });
  keepTrack(child);
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
  const [address, pid] = await readyLine(child, () => stderr);
  const doors = await openDoors(folder, address);
  return {
    pid,
    doors,
    stderr: () => stderr,
    async end(signal) {
      if (child.exitCode === null && child.signalCode === null) {
        const gone = once(child, 'exit');
        process.kill(pid, signal);
        await gone;
      }
      return child.exitCode ?? undefined;
    },
    async [Symbol.asyncDispose]() {
      doors.close();
      await endChild(child);
    },
  };
}

function readyLine(child: ChildProcess, stderr: () => string): Promise<readonly [address: string, pid: number]> {
  return new Promise((resolve, reject) => {
    let text = '';
    child.once('error', reject);
    child.once('exit', () => {
      reject(new Error(`it ended before it was ready: ${stderr()}`));
    });
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      const [, pid, address] = /^ready pid=(\d+) grpc=(\S+) http=\S+ admin=.+$/m.exec(text) ?? [];
      if (pid !== undefined && address !== undefined) resolve([address, Number(pid)]);
    });
  });
}

/** Runs a start that is to fail, to its end. */
export async function failingStart(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
  return runProgram(process.execPath, [bin, 'server', ...args], { env: { ...plainEnvironment(), ...env }, timeoutMs: 60_000 });
}

/** Sets how large a file the process may write, so that a full disk is played without one (getrlimit(2), RLIMIT_FSIZE). */
export async function limitFileSize(pid: number, bytes: number | undefined): Promise<void> {
  const { code, stderr } = await runProgram('prlimit', [
    `--fsize=${bytes === undefined ? 'unlimited' : String(bytes)}:`,
    '--pid',
    String(pid),
  ]);
  if (code !== 0) throw new Error(`prlimit: ${stderr}`);
}
