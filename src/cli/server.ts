import { Option } from 'commander';
import type { RunningServer } from '../server/running-server.ts';
import type { Config } from '../server/config/schema.ts';
import { watchContent } from './content-watch.ts';
import { optimizeSooner } from './optimizer.ts';
import { addressArgument, durationArgument } from './options.ts';
import type { DefineCommand, Session } from './session.ts';
import { examples } from './session.ts';

interface ServerOptions {
  readonly config?: string;
  readonly dev?: true;
  readonly data?: string;
  readonly grpc?: string;
  readonly http?: string;
  readonly leafTtl?: string;
  readonly trustDomain?: string;
  readonly hints?: true;
  readonly watchConfig?: true;
}

/** Flags override the environment, the environment the file: config/load.ts. */
export const define: DefineCommand = (command, session) => {
  const address = (text: string): string => {
    addressArgument(text);
    return text;
  };
  // Checked here, so that a typing error is wrong usage; read where every setting is.
  const leafTtl = (text: string): string => {
    durationArgument({ minMs: 1000 })(text);
    return text;
  };
  command
    .option('--config <file>', 'the YAML configuration')
    .option('--dev', 'for one machine: embedded defaults and a token issuer of its own; refuses production folders')
    .option('--data <dir>', 'the data folder (0700), made if missing (--dev: .signet)')
    .option('--grpc <host:port>', 'where SDS and the CSR APIs are served; port 0 takes a free one', address)
    .option('--http <host:port>', 'where /metrics, /healthz and /readyz are served', address)
    .option('--trust-domain <name>', 'the trust domain (--dev: cluster.local)')
    .addOption(new Option('--leaf-ttl <duration>', 'with --dev: how long certificates live').argParser(leafTtl))
    .option('--watch-config', 'load the file again whenever its content changes, as SIGHUP does')
    .addOption(new Option('--hints', 'say on stderr what to do next').hideHelp())
    .addHelpText(
      'after',
      `
Once it serves, it prints one line on stdout:
  ready pid=N grpc=HOST:PORT http=HOST:PORT admin=PATH
Logs are JSON lines on stderr. SIGTERM and SIGINT drain and end it with 0; a second one ends it at once.
SIGHUP loads the configuration again: CA backends, trusted roots and policy change without a restart, all or nothing.

Every setting can come from the file, the environment (SIGNET_ and its path in upper case: SIGNET_LISTEN__GRPC) or, a few,
from flags. Flags win over the environment, and the environment over the file.`,
    );
  examples(command, [
    ['signet server --dev --data .signet --leaf-ttl 20s', 'to try things out: certificates of 20 seconds'],
    ['signet server --config /etc/signet/signet.yaml', 'in production'],
  ]);
  command.action(async (options: ServerOptions) => {
    if (options.leafTtl !== undefined && !options.dev) {
      command.error('signet: --leaf-ttl is for --dev; in production set policy.tiers in the configuration', { exitCode: 2 });
    }
    if (options.config === undefined && !options.dev) {
      // Settings may all come from the environment; with none there is nothing to serve.
      const configured = Object.keys(session.terminal.env).some((name) => name.startsWith('SIGNET_'));
      if (!configured) command.error('signet: give --config FILE, or --dev to try it on embedded defaults', { exitCode: 2 });
    }
    await serve(options, session);
  });
};

async function serve(options: ServerOptions, session: Session): Promise<void> {
  const { terminal } = session;
  const signal = terminal.interrupted();
  const dev = options.dev ?? false;
  const [{ loadConfig }, { startServer }] = await Promise.all([import('../server/config/load.ts'), import('../server/start.ts')]);
  const load = (): Promise<Config> =>
    loadConfig({
      file: options.config,
      env: terminal.env,
      dev,
      flags: {
        data: options.data,
        'listen.grpc': options.grpc,
        'listen.http': options.http,
        trustDomain: options.trustDomain,
        'policy.tiers.dev': options.leafTtl,
      },
    });
  const config = await load();
  let server: RunningServer;
  try {
    server = await startServer(config, { dev, signal });
  } catch (error) {
    // Told to end while it started: that is what it did.
    if (wasAborted(signal)) return;
    throw error;
  }
  terminal.out(`ready pid=${String(process.pid)} grpc=${server.grpcAddress} http=${server.httpAddress} admin=${server.adminPath}\n`);
  optimizeSooner();
  if (options.hints) terminal.err(hints(config.data, server));
  const reload = (): void => void server.reload(load);
  const stops = [terminal.onHangup(reload)];
  if (options.watchConfig && options.config !== undefined) stops.push(watchContent(options.config, reload));
  try {
    await untilAborted(signal, server.closed);
  } finally {
    for (const stop of stops) stop();
  }
  await server.close();
}

function wasAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

/** Until the signal, or until the server ended by itself; its reason is then the command's failure. */
async function untilAborted(signal: AbortSignal, closed: Promise<void>): Promise<void> {
  if (signal.aborted) return;
  const aborted = new Promise<void>((resolve) => {
    signal.addEventListener(
      'abort',
      () => {
        resolve();
      },
      { once: true },
    );
  });
  await Promise.race([aborted, closed]);
  if (!wasAborted(signal)) throw new Error('the server ended by itself');
}

function hints(data: string, server: RunningServer): string {
  return `
Signet serves on ${server.grpcAddress}. In another terminal:

  npx signet token --data ${data} --namespace shop --service-account web --out ${data}/web.token
  npx signet envoy bootstrap --data ${data} --server ${server.grpcAddress} --token-file ${data}/web.token > ${data}/web.yaml
  envoy -c ${data}/web.yaml                     # an Envoy with an identity of its own
  npx signet status --data ${data} --watch      # who is served, and what they made of it
  npx signet certs list --data ${data}
  curl http://${server.httpAddress}/metrics

Or see two Envoys rotate without one failed request: npm run demo
`;
}
