import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { harmless } from '../../base/harmless.ts';

/** What is run after new files are in place: an argument vector, no shell. */
export interface FilesCommand {
  readonly argv: readonly [string, ...string[]];
  /** How long it may take before it is asked to end, in ms. */
  readonly timeoutMs: number;
}

export type CommandResult = 'ok' | 'failed' | 'timeout';

export interface CommandOutcome {
  readonly result: CommandResult;
  /** Its exit code, or the signal that ended it; `not started` with why in `output`. */
  readonly status: string;
  /** The first of what it said on stdout and stderr, without what a terminal would obey. */
  readonly output: string;
}

const mostOutput = 4096;
const killAfterMs = 5000;
/** What it left behind may hold its output open: that is not waited for. */
const outputGraceMs = 200;
/** Nothing of the agent's own environment: there may be a sealing key in it. */
const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * Runs it in a process group of its own, and ends the whole group when the time is up or `signal` aborts: SIGTERM, and
 * SIGKILL five seconds later. Never rejects.
 */
export function runCommand(
  { argv, timeoutMs }: FilesCommand,
  environment: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<CommandOutcome> {
  const [file, ...args] = argv;
  return new Promise((resolve) => {
    let output = '';
    let ended: 'timeout' | 'stopped' | undefined;
    let kill: NodeJS.Timeout | undefined;
    const child = spawn(file, args, {
      cwd: '/',
      env: { PATH: path, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });

    function end(why: 'timeout' | 'stopped'): void {
      if (ended) return;
      ended = why;
      signalGroup(child, 'SIGTERM');
      kill = setTimeout(() => {
        signalGroup(child, 'SIGKILL');
      }, killAfterMs);
    }
    const stop = (): void => {
      end('stopped');
    };
    const deadline = setTimeout(() => {
      end('timeout');
    }, timeoutMs);
    function settle(status: string): void {
      clearTimeout(deadline);
      clearTimeout(kill);
      // Its leader is gone; what else of the group is left after a timeout goes as well.
      if (ended) signalGroup(child, 'SIGKILL');
      signal.removeEventListener('abort', stop);
      child.stdout.destroy();
      child.stderr.destroy();
      const result = ended === 'timeout' ? 'timeout' : status === '0' ? 'ok' : 'failed';
      resolve({ result, status, output: harmless(output.trim().replaceAll(/\s*\n\s*/g, ' | ')) });
    }

    for (const stream of [child.stdout, child.stderr]) {
      // Read to the end, whatever is kept: a full pipe would stop it.
      stream.setEncoding('utf8').on('data', (text: string) => {
        output = (output + text).slice(0, mostOutput);
      });
      stream.on('error', () => undefined);
    }
    child.once('error', (error) => {
      output = error.message;
      settle('not started');
    });
    child.once('exit', (code, by) => {
      const status = String(code ?? by);
      const patience = setTimeout(() => {
        settle(status);
      }, outputGraceMs);
      child.once('close', () => {
        clearTimeout(patience);
        settle(status);
      });
    });
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
}

function signalGroup(child: ChildProcess, name: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, name);
  } catch {
    // All of them are gone.
  }
}
