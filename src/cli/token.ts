import { Option } from 'commander';
import type { DevIssuer } from '../identity/dev-issuer.ts';
import { replaceFile } from '../store/atomic-file.ts';
import { openDataFolderIssuer } from './dev-issuer-file.ts';
import { printFailure } from './failure.ts';
import { dataOption, durationArgument } from './options.ts';
import { pause } from './pause.ts';
import type { DefineCommand, Session } from './session.ts';
import { examples } from './session.ts';

interface TokenOptions {
  readonly data: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly audience: string;
  readonly ttl: number;
  readonly pod?: string;
  readonly out?: string;
  readonly watch?: true;
}

const hour = 3_600_000;
const retryMs = 5000;
/** Envoy reads the file when it opens a stream, and a stream ends before its token does: the file is to be young then. */
const renewAtShareOfLife = 0.5;

export const define: DefineCommand = (command, session) => {
  command
    .addOption(dataOption())
    .requiredOption('--namespace <name>', 'namespace of the service account')
    .requiredOption('--service-account <name>', 'the service account')
    .option('--audience <name>', 'whom it is for; Istio\'s CA API takes "istio-ca"', 'signet')
    .addOption(new Option('--ttl <duration>', 'how long it is good for').argParser(durationArgument({ minMs: 1000 })).default(hour, '1h'))
    .option('--pod <name>', 'the pod that bears it; tokens of two pods are two instances (default: SERVICE-ACCOUNT-0)')
    .option('--out <file>', 'write it there (0600, in one step, no newline) instead of printing it')
    .option('--watch', 'with --out: stay, and write a new one whenever half of its life is over')
    .addHelpText(
      'after',
      `
The token has the claims of a Kubernetes projected service-account token. It is signed by the key in <data>/issuer.key,
which only a server started with --dev makes; the server need not run. Whoever can read that key can be anybody.`,
    );
  examples(command, [
    ['signet token --namespace shop --service-account web', 'print one'],
    ['signet token --namespace shop --service-account web --out /tmp/web.token --watch', "keep Envoy's token file fresh"],
    ['signet token --namespace shop --service-account web --audience istio-ca', "for Istio's CA API"],
  ]);
  command.action(async (options: TokenOptions) => {
    if (options.watch && options.out === undefined)
      command.error("signet: --watch needs --out: a printed token can't be renewed", { exitCode: 2 });
    await token(options, session);
  });
};

async function token(options: TokenOptions, { terminal, clock }: Session): Promise<void> {
  const issuer = await openDataFolderIssuer(options.data, clock);
  if (options.out === undefined) {
    // A newline would become part of the header that Envoy makes of the file it is redirected to.
    terminal.out(`${await mint(issuer, options)}${terminal.interactive ? '\n' : ''}`);
    return;
  }
  replaceFile(options.out, await mint(issuer, options));
  if (!options.watch) return;
  const signal = terminal.interrupted();
  terminal.err(`keeping ${options.out} fresh; Ctrl-C ends it\n`);
  for (let failed = false; ; ) {
    await pause(Math.min(options.ttl * renewAtShareOfLife, failed ? retryMs : 12 * hour), signal);
    if (signal.aborted) return;
    try {
      replaceFile(options.out, await mint(issuer, options));
      failed = false;
    } catch (error) {
      // A full disk may have room again before the token ends.
      failed = true;
      printFailure(terminal, error);
    }
  }
}

function mint(issuer: DevIssuer, { namespace, serviceAccount, pod, audience, ttl }: TokenOptions): Promise<string> {
  return issuer.mint({ namespace, serviceAccount, audience, ttlMs: ttl, ...(pod === undefined ? {} : { pod }) });
}
