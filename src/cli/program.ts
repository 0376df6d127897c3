import { Command, CommanderError } from 'commander';
import { packageVersion } from '../base/package-version.ts';
import { printFailure } from './failure.ts';
import type { DefineCommand, Session } from './session.ts';
import { newSession } from './session.ts';
import type { Terminal } from './terminal.ts';
import { paintFor, processTerminal } from './terminal.ts';

interface Entry {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<{ readonly define: DefineCommand }>;
}

/** In the order of the help. A command's file is loaded only when it is named: the server's start is no slower for the demo. */
const entries: readonly Entry[] = [
  { name: 'server', summary: 'run the control plane', load: () => import('./server.ts') },
  {
    name: 'agent',
    summary: 'make keys where they are used: serve workloads on this host over unix sockets',
    load: () => import('./agent.ts'),
  },
  { name: 'demo', summary: 'watch two real Envoys speak mTLS while their certificates rotate', load: () => import('./demo.ts') },
  { name: 'status', summary: 'what the server serves, to whom, and what Envoy made of it', load: () => import('./status.ts') },
  { name: 'certs', summary: 'list, show and renew certificates; take a bound key away', load: () => import('./certs.ts') },
  { name: 'ca', summary: "a CA's keys and certificates: roots, intermediates, offline exchange", load: () => import('./ca.ts') },
  { name: 'deny', summary: 'the stop button: end an identity, at once and durably', load: () => import('./deny.ts') },
  { name: 'token', summary: 'mint a service-account token of the development issuer', load: () => import('./token.ts') },
  { name: 'csr', summary: "make a private key on this host and bind it to the workload's identity", load: () => import('./csr.ts') },
  { name: 'envoy', summary: 'configurations for Envoy', load: () => import('./envoy.ts') },
  { name: 'plugin', summary: 'test a CA backend of your own', load: () => import('./plugin.ts') },
  { name: 'config', summary: 'check a configuration file', load: () => import('./config.ts') },
];

const wrongUsage = 2;

/** Runs one command line (without node and script). Resolves with the exit code: 0 done, 1 failed, 2 wrong usage. Never rejects. */
export async function run(argv: readonly string[], terminal: Terminal = processTerminal()): Promise<number> {
  const session = newSession(terminal);
  try {
    const program = await buildProgram(session, namedIn(argv));
    await program.parseAsync(argv, { from: 'user' });
    return session.exitCode;
  } catch (error) {
    // commander's own number is 0 for help and version that were asked for.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : wrongUsage;
    printFailure(terminal, error);
    return 1;
  }
}

/** The program with the options of the named commands; `all` for the reference page. */
export async function buildProgram(session: Session, named: ReadonlySet<string> | 'all'): Promise<Command> {
  const { terminal } = session;
  const paint = paintFor(terminal);
  const program = new Command('signet')
    .description('Short-lived SPIFFE certificates for Envoy, by SDS, without restarts.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help for a command')
    .configureHelp({ showGlobalOptions: false, styleTitle: paint.bold })
    .configureOutput({
      writeOut: terminal.out,
      writeErr: terminal.err,
      getOutHasColors: () => terminal.colors,
      getErrHasColors: () => terminal.colors,
      getOutHelpWidth: () => Math.min(terminal.columns() || 100, 120),
      getErrHelpWidth: () => Math.min(terminal.columns() || 100, 120),
      outputError: (text, write) => {
        write(text.replace(/^error: /, 'signet: '));
      },
    })
    .showHelpAfterError('(add --help for what it takes)')
    .exitOverride()
    .addHelpText('after', firstSteps);
  for (const entry of entries) {
    const command = program.command(entry.name).description(entry.summary);
    if (named === 'all' || named.has(entry.name)) (await entry.load()).define(command, session);
  }
  return program;
}

const firstSteps = `
First steps:
  $ signet server --dev --data .signet            # a server on embedded defaults
  $ signet demo                                   # or see everything at work, with real Envoys
  $ signet status --data .signet
`;

/** The words that may name a command: \`certs\` of \`certs list\`, and of \`help certs\`. */
function namedIn(argv: readonly string[]): ReadonlySet<string> {
  return new Set(argv.filter((word) => !word.startsWith('-')).slice(0, 2));
}
