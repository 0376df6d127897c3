import { InvalidArgumentError, Option } from 'commander';
import type { Command } from 'commander';
import type { TrustDomain } from '../spiffe/id.ts';
import { parseTrustDomain } from '../spiffe/id.ts';
import { SignetError } from '../base/errors.ts';
import { countArgument, durationArgument, jsonOption } from './options.ts';
import type { DefineCommand, Session } from './session.ts';
import type { PluginTestOptions } from './plugin/test-options.ts';
import { examples } from './session.ts';

export const define: DefineCommand = (command, session) => {
  defineTest(command.command('test'), session);
};

function defineTest(command: Command, session: Session): void {
  command
    .description('run the conformance cases of a CA backend against a plugin that you write')
    .argument('[argument...]', 'after --: more arguments of --command, also those that begin with a dash')
    .option('--command <program...>', 'start this plugin, as Signet would')
    .addOption(
      new Option('--environment <name=value>', 'a variable for --command; may be given again').argParser(
        (text: string, before: Readonly<Record<string, string>> | undefined) => ({ ...before, ...assignment(text) }),
      ),
    )
    .option('--socket <path>', 'or: one that listens on this unix socket')
    .option('--address <host:port>', 'or: one that listens here, by mutual TLS')
    .option('--tls-ca <file>', "with --address: PEM file of the CAs of the plugin's certificate")
    .option('--tls-certificate <file>', 'with --address: PEM file of the certificate to show')
    .option('--tls-key <file>', 'with --address: PEM file of its key')
    .option('--tls-server-name <name>', "with --address: the name in the plugin's certificate, if it is another")
    .addOption(new Option('--trust-domain <name>', 'certificates are for names in it').argParser(trustDomainArgument).makeOptionMandatory())
    .option('--anchors <file>', 'PEM file of the roots that it may name (default: any, and their hashes are printed)')
    .addOption(
      new Option('--shortest-life <duration>', 'the shortest life that its CA can give')
        .argParser(durationArgument())
        .default(10_000, '10s'),
    )
    .addOption(new Option('--signatures <count>', 'how many to measure').argParser(countArgument).default(100))
    .addOption(
      new Option('--start-timeout <duration>', 'how long it may take to start and answer')
        .argParser(durationArgument())
        .default(10_000, '10s'),
    )
    .addOption(jsonOption('print the outcome in JSON; what the plugin prints goes to stderr'))
    .addHelpText(
      'after',
      `
A plugin is a CA in a process of its own, which Signet speaks to by gRPC (proto/signet/plugin/v1/plugin.proto). The cases are
those that every backend of Signet passes: chain, names and lives as asked for, errors by their kind, cancellation, many at once,
a restart, an outage. A line per case says ok, FAILED and why, or not run and what would be needed for it. No certificate
that is made here is used for anything. The plugin runs in / with little in its environment, as it will with Signet: give it
absolute paths.

Start from a template: examples/plugins/typescript or examples/plugins/go. The guide is docs/how-to/write-a-plugin.md.
Exits with 0 if no case failed, 1 if one did, 2 for wrong usage.`,
    );
  examples(command, [
    ['signet plugin test --trust-domain example.org --command ./my-plugin /var/lib/my-ca', 'start it, test it, end it'],
    ['signet plugin test --trust-domain example.org --command ./my-plugin -- --role web', 'with arguments that begin with a dash'],
    ['signet plugin test --trust-domain example.org --socket /run/my-plugin.sock --anchors root.pem', 'one that runs, whose root is known'],
    ['signet plugin test --trust-domain example.org --command ./my-plugin --json', 'in CI'],
  ]);
  command.action(async (more: readonly string[], options: PluginTestOptions) => {
    const places = [options.command, options.socket, options.address].filter((place) => place !== undefined);
    if (places.length !== 1) command.error('signet: give exactly one of --command, --socket and --address', { exitCode: 2 });
    if (options.address !== undefined && !(options.tlsCa && options.tlsCertificate && options.tlsKey))
      command.error('signet: --address needs --tls-ca, --tls-certificate and --tls-key', { exitCode: 2 });
    if (more.length > 0 && !options.command) command.error('signet: only --command takes more arguments', { exitCode: 2 });
    const { testPlugin } = await import('./plugin/test.ts');
    await testPlugin({ ...options, ...(options.command ? { command: [...options.command, ...more] } : {}) }, session);
  });
}

function trustDomainArgument(text: string): TrustDomain {
  try {
    return parseTrustDomain(text);
  } catch (error) {
    throw new InvalidArgumentError(SignetError.from(error).message);
  }
}

function assignment(text: string): Record<string, string> {
  const [, name, value] = /^([A-Za-z_][A-Za-z0-9_]*)=([^]*)$/.exec(text) ?? [];
  if (name === undefined || value === undefined) throw new InvalidArgumentError('Write NAME=VALUE.');
  return { [name]: value };
}
