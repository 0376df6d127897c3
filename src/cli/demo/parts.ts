import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import type { EnvoyAddress } from '../envoy-config/settings.ts';
import { addressArgument, addressOption, countArgument, dataOption, spiffeIdArgument } from '../options.ts';
import type { Session } from '../session.ts';
import { examples } from '../session.ts';
import type { LoadTarget } from './load.ts';

interface ServiceOptions {
  readonly name: string;
  readonly listen: EnvoyAddress;
  readonly next?: EnvoyAddress;
}

interface ClientOptions {
  readonly server: EnvoyAddress;
  readonly ca: string;
  readonly tokenFile: string;
  readonly target: readonly LoadTarget[];
  readonly rate: number;
  readonly out?: string;
}

interface TokensOptions {
  readonly data: string;
  readonly namespace: string;
  readonly out: string;
}

interface StrangerOptions {
  readonly target: readonly EnvoyAddress[];
}

/** The parts of the demo by themselves, for meshes that something else brings up: docker-compose.yml does. */
export function defineParts(demo: Command, session: Session): void {
  defineTokens(demo.command('tokens'), session);
  defineService(demo.command('service'), session);
  defineClient(demo.command('client'), session);
  defineStranger(demo.command('stranger'), session);
}

function defineTokens(command: Command, session: Session): void {
  command
    .description('what the kubelet does for pods: fresh tokens, and what the server is pinned to, in a folder for each')
    .argument('<service-accounts...>', 'whose')
    .addOption(dataOption())
    .option('--namespace <name>', 'their namespace', 'shop')
    .requiredOption('--out <dir>', 'writes DIR/SERVICE-ACCOUNT/token and server-ca.pem, and stays to keep them fresh');
  examples(command, [['signet demo tokens --data .signet --out /tmp/tokens web orders', 'for two of them']]);
  command.action(async (serviceAccounts: readonly string[], options: TokensOptions) => {
    const { keepTokens } = await import('./tokens.ts');
    await keepTokens({ ...options, serviceAccounts }, session);
  });
}

function defineService(command: Command, session: Session): void {
  command
    .description('an application that knows nothing of TLS: it says who called, as its Envoy tells it')
    .requiredOption('--name <name>', 'what it calls itself')
    .addOption(addressOption('--listen <host:port>', 'where it takes HTTP, in clear', '127.0.0.1:8000'))
    .option('--next <host:port>', "asked before each answer: its own Envoy's outbound listener", addressArgument);
  examples(command, [
    ['signet demo service --name web --next 127.0.0.1:9001', 'behind an Envoy that takes mTLS for it, and makes it on port 9001'],
  ]);
  command.action(async ({ name, listen, next }: ServiceOptions) => {
    const { startApplication } = await import('./application.ts');
    const signal = session.terminal.interrupted();
    const application = await startApplication({ name, ...listen, ...(next === undefined ? {} : { next }) });
    await aborted(signal);
    await application.close();
  });
}

function defineClient(command: Command, session: Session): void {
  command
    .description('requests at a steady rate, each on a new connection, and a line of JSON every five seconds')
    .addOption(addressOption('--server <host:port>', "the server's gRPC address", '127.0.0.1:8443'))
    .requiredOption('--ca <file>', "PEM file that the server's certificate is pinned to: its server-ca.pem")
    .requiredOption('--token-file <file>', 'the token of its own identity, read anew each time')
    .requiredOption('--target <address,spiffe-id>', 'a service, and who must answer there; again for more', collectTargets)
    .option('--rate <n>', 'requests a second, over all targets', countArgument, 24)
    .option('--out <file>', 'keep the newest line there, too: for a health check')
    .addHelpText(
      'after',
      `
Every request has a TCP and TLS connection of its own, without resumption, is never retried and must be answered within 2 s
by exactly the identity named, through services that saw exactly the caller before them. Anything else counts as failed. Its
own certificate comes by a CSR, and a new one at each half-life. Counting begins once every target has answered.
Exits with 1 if any request failed.`,
    );
  examples(command, [
    [
      'signet demo client --ca .signet/server-ca.pem --token-file client.token --target 127.0.0.1:15006,spiffe://cluster.local/ns/shop/sa/web',
      'until Ctrl-C',
    ],
  ]);
  command.action(async (options: ClientOptions) => {
    const { runLoad } = await import('./load.ts');
    const { failed, requests } = await runLoad({ ...options, targets: options.target }, session);
    if (failed > 0 || requests === 0) session.exitCode = 1;
  });
}

function defineStranger(command: Command, session: Session): void {
  command
    .description('tries to get in without a certificate, and is to be refused')
    .requiredOption('--target <host:port>', 'a door for mTLS; again for more', collectAddresses)
    .addHelpText('after', '\nA line of JSON for each try: in clear, and by TLS without a certificate. Exits with 1 if any was answered.');
  examples(command, [['signet demo stranger --target 127.0.0.1:15006', 'one door']]);
  command.action(async ({ target }: StrangerOptions) => {
    const { knock } = await import('./stranger.ts');
    for (const address of target) {
      for (const tried of await knock(address)) {
        session.terminal.out(`${JSON.stringify(tried)}\n`);
        if (!tried.refused) session.exitCode = 1;
      }
    }
  });
}

function collectTargets(text: string, before: readonly LoadTarget[] = []): readonly LoadTarget[] {
  const [address, id, ...more] = text.split(',');
  if (address === undefined || id === undefined || more.length > 0) throw new InvalidArgumentError('Write HOST:PORT,SPIFFE_ID.');
  return [...before, { address: addressArgument(address), spiffeId: spiffeIdArgument(id) }];
}

function collectAddresses(text: string, before: readonly EnvoyAddress[] = []): readonly EnvoyAddress[] {
  return [...before, addressArgument(text)];
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise((resolve) => {
    signal.addEventListener('abort', resolve, { once: true });
  });
}
