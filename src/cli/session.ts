import type { Command } from 'commander';
import type { Clock } from '../base/clock.ts';
import { systemClock } from '../base/clock.ts';
import type { Terminal } from './terminal.ts';

/** What every command is given: the terminal, the clock, and where to leave its exit code. */
export interface Session {
  readonly terminal: Terminal;
  readonly clock: Clock;
  /** 0 done, 1 failed, 2 wrong usage. */
  exitCode: number;
}

/** A file per command exports this: adds options, examples and the action to a command that already has its name. */
export type DefineCommand = (command: Command, session: Session) => void;

export function newSession(terminal: Terminal, clock: Clock = systemClock): Session {
  return { terminal, clock, exitCode: 0 };
}

/** One JSON document, indented for a person, on one line for a program. */
export function printJson(terminal: Terminal, value: unknown): void {
  terminal.out(`${JSON.stringify(value, undefined, terminal.interactive ? 2 : undefined)}\n`);
}

/** The examples at the end of a command's help. */
export function examples(command: Command, lines: readonly (readonly [command: string, what: string])[]): void {
  command.addHelpText('after', `\nExamples:\n${lines.map(([text, what]) => `  # ${what}\n  $ ${text}\n`).join('')}`);
}
