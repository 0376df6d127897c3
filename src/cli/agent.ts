import { addressArgument } from './options.ts';
import type { DefineCommand, Session } from './session.ts';
import { examples } from './session.ts';

interface AgentOptions {
  readonly config?: string;
  readonly server: readonly string[];
  readonly trustDomain?: string;
  readonly ca?: string;
  readonly pin: readonly string[];
  readonly tokenFile?: string;
  readonly socket?: string;
  readonly cache?: string;
  readonly sealingKeyFile?: string;
  readonly http?: string;
}

/** Flags override the environment, the environment the file: agent/config/load.ts. */
export const define: DefineCommand = (command, session) => {
  const address = (text: string): string => {
    addressArgument(text);
    return text;
  };
  const addresses = (text: string, before: readonly string[]): readonly string[] => [...before, address(text)];
  const texts = (text: string, before: readonly string[]): readonly string[] => [...before, text];
  command
    .option('--config <file>', 'the YAML configuration')
    .option('--server <host:port>', "a server's gRPC address; again for those to ask when it is away", addresses, [])
    .option('--trust-domain <name>', "the workloads' trust domain")
    .option('--ca <file>', "PEM file that the servers' certificate is pinned to: their server-ca.pem")
    .option('--pin <hex>', "or SHA-256 of the control-plane root's public key; again for more", texts, [])
    .option('--token-file <file>', "the workload's service-account token, read anew each time")
    .option('--socket <path>', 'the unix socket that it is served on, in a folder of its own')
    .option('--cache <dir>', 'keep sealed copies there, to start from while the servers are away')
    .option('--sealing-key-file <file>', 'what seals them: 32 random bytes in base64, kept elsewhere')
    .option('--http <host:port>', 'where /metrics, /healthz and /readyz are served, on loopback', address)
    .addHelpText(
      'after',
      `
Makes a key and asks the server for a certificate, for each workload by its own token; renews at half of its life, with a
new key each time. Envoy gets key, certificate and trust by SDS on the socket, in clear: whoever can open the socket is the
workload. The keys never leave this host. While every server is away, workloads keep what they have until it ends.

--token-file and --socket are for one workload; a configuration has as many as you like.

Once it serves, it prints one line on stdout:
  ready pid=N sockets=PATH,PATH http=HOST:PORT
Logs are JSON lines on stderr. SIGTERM and SIGINT drain and end it with 0; a second one ends it at once.

Every setting can come from the file, the environment (SIGNET_ and its path in upper case: SIGNET_SERVERS) or, a few, from
flags. The key that seals the cache is --sealing-key-file, else SIGNET_SEALING_KEY, else systemd's credential
signet-sealing-key.`,
    );
  examples(command, [
    [
      'signet agent --server signet.example.org:8443 --ca server-ca.pem --trust-domain example.org --token-file /run/secrets/token --socket /run/signet/web/agent.sock',
      'one workload, as a sidecar',
    ],
    ['signet agent --config /etc/signet/agent.yaml', 'the workloads of a host'],
  ]);
  command.action(async (options: AgentOptions) => {
    const configured = Object.keys(session.terminal.env).some((name) => name.startsWith('SIGNET_WORKLOADS'));
    if (options.config === undefined && options.socket === undefined && !configured)
      command.error('signet: give --config FILE, or --server, --ca, --trust-domain, --token-file and --socket for one workload', {
        exitCode: 2,
      });
    await serve(options, session);
  });
};

async function serve(options: AgentOptions, session: Session): Promise<void> {
  const { terminal } = session;
  const signal = terminal.interrupted();
  const [{ loadAgentConfig }, { startAgent }] = await Promise.all([import('../agent/config/load.ts'), import('../agent/start.ts')]);
  const config = await loadAgentConfig({
    file: options.config,
    env: terminal.env,
    flags: {
      servers: joined(options.server),
      trustDomain: options.trustDomain,
      'serverTrust.caFile': options.ca,
      'serverTrust.pinnedSpki': joined(options.pin),
      // A workload that has no file to be named in.
      'workloads.0.name': options.config === undefined && options.socket !== undefined ? 'workload' : undefined,
      'workloads.0.tokenFile': options.tokenFile,
      'workloads.0.socket': options.socket,
      'cache.folder': options.cache,
      'cache.sealingKeyFile': options.sealingKeyFile,
      'listen.http': options.http,
    },
  });
  let agent;
  try {
    agent = await startAgent(config, { env: process.env, signal });
  } catch (error) {
    // Told to end while it started: that is what it did.
    if (wasAborted(signal)) return;
    throw error;
  }
  const http = agent.httpAddress === undefined ? '' : ` http=${agent.httpAddress}`;
  terminal.out(`ready pid=${String(process.pid)} sockets=${agent.sockets.join(',')}${http}\n`);
  if (!wasAborted(signal)) {
    await new Promise<void>((resolve) => {
      signal.addEventListener(
        'abort',
        () => {
          resolve();
        },
        { once: true },
      );
    });
  }
  await agent.close();
}

function joined(values: readonly string[]): string | undefined {
  return values.length === 0 ? undefined : values.join(',');
}

function wasAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}
