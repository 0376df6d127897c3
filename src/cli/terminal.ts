/** What a command may know of the world it talks to; tests give their own. */
export interface Terminal {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Whether stdout is a terminal: a person reads it. */
  readonly interactive: boolean;
  /** Whether to colour: a terminal, and the reader did not say no (https://no-color.org). */
  readonly colors: boolean;
  /** Columns of the terminal, 0 when it is none. */
  readonly columns: () => number;
  /** Aborts at the first SIGINT or SIGTERM. The second one ends the process at once. */
  readonly interrupted: () => AbortSignal;
  /** Called at each SIGHUP, which then ends nothing. Returns how to stop. */
  readonly onHangup: (listener: () => void) => () => void;
}

/** 128 + SIGINT, as shells report it. */
const interruptedExitCode = 130;

export function processTerminal(): Terminal {
  const { stdout, stderr, env } = process;
  // The reader of a pipe may leave (`signet certs list | head`): that is no failure of ours.
  stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
  stderr.on('error', () => undefined);
  let controller: AbortController | undefined;
  return {
    env,
    out: (text) => void stdout.write(text),
    err: (text) => void stderr.write(text),
    interactive: stdout.isTTY,
    colors: stdout.isTTY && !env.NO_COLOR && env.TERM !== 'dumb',
    columns: () => (stdout.isTTY ? stdout.columns : 0),
    interrupted() {
      if (controller) return controller.signal;
      const { signal, abort } = interruptible();
      controller = abort;
      return signal;
    },
    onHangup(listener) {
      process.on('SIGHUP', listener);
      return () => process.off('SIGHUP', listener);
    },
  };
}

function interruptible(): { signal: AbortSignal; abort: AbortController } {
  const abort = new AbortController();
  const onSignal = (): void => {
    if (abort.signal.aborted) process.exit(interruptedExitCode);
    abort.abort();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return { signal: abort.signal, abort };
}

export interface Paint {
  readonly bold: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly red: (text: string) => string;
  readonly green: (text: string) => string;
  readonly yellow: (text: string) => string;
}

export function paintFor(terminal: Pick<Terminal, 'colors'>): Paint {
  const wrap = (open: number, close: number) => (text: string) =>
    terminal.colors ? `\u001b[${String(open)}m${text}\u001b[${String(close)}m` : text;
  return { bold: wrap(1, 22), dim: wrap(2, 22), red: wrap(31, 39), green: wrap(32, 39), yellow: wrap(33, 39) };
}
