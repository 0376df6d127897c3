import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Clock } from '../../base/clock.ts';
import { createOutputLines } from './output-lines.ts';

export interface ProcessOptions {
  /** Program and arguments, without a shell. */
  readonly command: readonly [string, ...string[]];
  /** All of its environment. */
  readonly environment: Readonly<Record<string, string>>;
  /** Where it will listen; removed when it has ended. */
  readonly socket: string;
  /** How long it may take to end, in ms. */
  readonly graceMs: number;
  readonly clock: Clock;
  /** A line of its output, bounded and without what a terminal would obey. */
  readonly said: (line: string) => void;
}

export interface PluginProcess {
  /** Resolves when it is gone, with its exit code or the signal that ended it. Never rejects. */
  readonly ended: Promise<string>;
  /** SIGTERM to it and all that it started, and SIGKILL after the grace. Resolves when they are gone. */
  stop(): Promise<void>;
}

/** A file of ours, run as it is: TypeScript in a checkout, JavaScript when built. */
const warden = fileURLToPath(new URL(`./warden${import.meta.filename.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url));

/** Starts it in a process group of its own, under a warden that ends it should this process die in any way. */
export function startPluginProcess(options: ProcessOptions): PluginProcess {
  const { command, environment, socket, graceMs, clock, said } = options;
  const child = spawn(process.execPath, [warden, socket, String(graceMs), ...command], {
    cwd: '/',
    env: environment,
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
  });
  // Nothing is ever written: that it is open is the message.
  child.stdin.on('error', () => undefined);
  for (const stream of [child.stdout, child.stderr]) {
    const lines = createOutputLines(said, clock);
    stream
      .setEncoding('utf8')
      .on('data', lines.write)
      .on('end', lines.end)
      .on('error', () => undefined);
  }
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => {
      resolve(`not started: ${error.message}`);
    });
    child.once('exit', (code, signal) => {
      resolve(signal ?? `exit code ${String(code)}`);
    });
  }).then(async (how) => {
    // The leader is gone; what else of the group is left goes as well.
    signalGroup(child, 'SIGKILL');
    child.stdin.destroy();
    await rm(socket, { force: true }).catch(() => undefined);
    return how;
  });
  return {
    ended,
    async stop() {
      signalGroup(child, 'SIGTERM');
      const kill = setTimeout(() => {
        signalGroup(child, 'SIGKILL');
      }, graceMs);
      await ended;
      clearTimeout(kill);
    },
  };
}

function signalGroup(child: ChildProcess, name: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, name);
  } catch {
    // All of them are gone.
  }
}
