import { run } from '../../src/cli/program.ts';
import type { Terminal } from '../../src/cli/terminal.ts';

export interface RecordingTerminal extends Terminal {
  output(): string;
  errors(): string;
  interrupt(): void;
}

/** What a command would print, in memory; not a terminal for people unless `interactive`. */
export function recordingTerminal(
  wish: { readonly interactive?: boolean; readonly env?: Readonly<Record<string, string>> } = {},
): RecordingTerminal {
  let [output, errors] = ['', ''];
  const controller = new AbortController();
  return {
    env: wish.env ?? {},
    out: (text) => {
      output += text;
    },
    err: (text) => {
      errors += text;
    },
    interactive: wish.interactive ?? false,
    colors: false,
    columns: () => 0,
    interrupted: () => controller.signal,
    onHangup: () => () => undefined,
    output: () => output,
    errors: () => errors,
    interrupt: () => {
      controller.abort();
    },
  };
}

export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs one command line in this process. */
export async function runCli(args: readonly string[], terminal = recordingTerminal()): Promise<CliResult> {
  const code = await run(args, terminal);
  return { code, stdout: terminal.output(), stderr: terminal.errors() };
}
