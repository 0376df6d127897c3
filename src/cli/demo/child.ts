import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { once } from 'node:events';
import { SignetError } from '../../base/errors.ts';

/** A program that the demo started, its output in a file. */
export interface Child {
  readonly name: string;
  /** Resolves with the first match in what it prints on stdout; throws with the end of its log if it ends before. */
  printed(pattern: RegExp, ms: number): Promise<RegExpExecArray>;
  readonly ended: boolean;
  /** The end of its log, for the message when things go wrong. */
  logTail(): Promise<string>;
  stop(): Promise<void>;
}

const stopMs = 10_000;
const tailBytes = 2000;
const alive = new Set<ChildProcess>();
let exitHandler = false;

/**
 * In a process group of its own: Ctrl-C reaches the demo alone, which then stops the client before what it calls. Should
 * the demo itself end in any other way but by SIGKILL, its children go with it.
 */
export function startChild(
  name: string,
  program: string,
  args: readonly string[],
  options: { readonly logFile: string; readonly env?: NodeJS.ProcessEnv },
): Child {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true, env: options.env ?? process.env });
  const log = createWriteStream(options.logFile, { flags: 'a', mode: 0o600 });
  child.stderr.pipe(log, { end: false });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-64 * 1024);
  });
  let ended = false;
  let failure: Error | undefined;
  child.once('error', (error) => {
    failure = error;
    ended = true;
  });
  child.once('exit', () => {
    ended = true;
    alive.delete(child);
  });
  alive.add(child);
  if (!exitHandler) {
    exitHandler = true;
    process.on('exit', () => {
      for (const one of alive) one.kill('SIGKILL');
    });
  }
  const logTail = async (): Promise<string> => {
    const handle = await open(options.logFile).catch(() => undefined);
    if (!handle) return '';
    try {
      const { size } = await handle.stat();
      const start = Math.max(0, size - tailBytes);
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(tailBytes), 0, tailBytes, start);
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await handle.close();
    }
  };
  return {
    name,
    get ended() {
      return ended;
    },
    logTail,
    async printed(pattern, ms) {
      const end = Date.now() + ms;
      for (;;) {
        const match = pattern.exec(output);
        if (match) return match;
        if (ended || Date.now() > end) {
          const why = failure?.message ?? (ended ? 'it ended' : 'it took too long');
          throw new SignetError('INTERNAL', `${name} did not start (${why})`, {
            cause: new Error(`${name} did not start: ${why}\n${await logTail()}`),
          });
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    async stop() {
      if (ended) return;
      const gone = once(child, 'exit');
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), stopMs);
      await gone;
      clearTimeout(timer);
      log.end();
    },
  };
}
