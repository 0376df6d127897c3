/** Writes docs/reference/cli.md from the program's own help, so that the page can't say what the program doesn't. */
import type { Command } from 'commander';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { buildProgram, run } from '../src/cli/program.ts';
import { newSession } from '../src/cli/session.ts';
import type { Terminal } from '../src/cli/terminal.ts';

export const referencePage = fileURLToPath(new URL('../docs/reference/cli.md', import.meta.url));

const introduction = `# Command line

<!-- Made from the program's help by scripts/cli-reference.ts; a test compares the two. -->

In a checkout, \`npx signet\` runs the sources; installed, \`signet\` runs the package. Both need Node 24.

- Exit codes: 0 done, 1 failed, 2 wrong usage. Errors go to stderr and say what to do next.
- \`--json\` prints what programs read, on stdout alone; times in it are ISO 8601.
- \`--data\` names the server's folder; \`SIGNET_DATA\` does so for a whole session. All verbs but \`token\`, \`csr\`,
  \`ca\`, \`envoy\` and \`config\` talk to the running server through the socket in it, so they need its owner's rights and no more.
- \`NO_COLOR\` is respected, and there is no colour where no terminal is.
`;

/** The page as it should be. */
export async function cliReference(): Promise<string> {
  const program = await buildProgram(newSession(silentTerminal()), 'all');
  const parts = [introduction];
  for (const path of paths(program))
    parts.push(`\n## signet${path.map((word) => ` ${word}`).join('')}\n\n\`\`\`text\n${(await help(path)).trimEnd()}\n\`\`\`\n`);
  return parts.join('');
}

function paths(command: Command, path: readonly string[] = []): readonly (readonly string[])[] {
  const children = command.commands.filter((child) => child.name() !== 'help');
  return [path, ...children.flatMap((child) => paths(child, [...path, child.name()]))];
}

async function help(path: readonly string[]): Promise<string> {
  let text = '';
  const terminal = silentTerminal((more) => {
    text += more;
  });
  await run([...path, '--help'], terminal);
  return text;
}

function silentTerminal(out: (text: string) => void = () => undefined): Terminal {
  return {
    env: {},
    out,
    err: () => undefined,
    interactive: false,
    colors: false,
    columns: () => 100,
    onHangup: () => () => undefined,
    interrupted: () => new AbortController().signal,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const page = await cliReference();
  const before = readFileSync(referencePage, { encoding: 'utf8', flag: 'a+' });
  writeFileSync(referencePage, page);
  console.log(before === page ? 'docs/reference/cli.md is as it was' : 'docs/reference/cli.md written');
}
