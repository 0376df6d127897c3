import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import { existsSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { SignetError } from '../base/errors.ts';
import type { TrustDomain } from '../spiffe/id.ts';
import { isTrustDomain, parseTrustDomain } from '../spiffe/id.ts';
import { dataFolderPaths } from '../store/data-folder.ts';
import { replaceFile } from '../store/atomic-file.ts';
import { folderTrustDomain } from './data-folder-facts.ts';
import { renderEnvoyFiles } from './envoy-config/bootstrap.ts';
import type { EnvoyAddress, EnvoyAuth, EnvoySettings, EnvoyUpstream } from './envoy-config/settings.ts';
import { addressArgument, addressOption, spiffeIdArgument } from './options.ts';
import type { DefineCommand, Session } from './session.ts';
import { examples } from './session.ts';

type AuthKind = EnvoyAuth['kind'];

interface BootstrapOptions {
  readonly auth?: Exclude<AuthKind, 'agent'>;
  readonly agent?: string;
  readonly api: 'sotw' | 'delta';
  readonly data?: string;
  readonly ca?: string;
  readonly trustDomain?: string;
  readonly server: EnvoyAddress;
  readonly tokenFile?: string;
  readonly certDir?: string;
  readonly node?: string;
  readonly cluster?: string;
  readonly admin: EnvoyAddress;
  readonly listen: EnvoyAddress;
  readonly inbound: boolean;
  readonly app?: EnvoyAddress;
  readonly caller: readonly string[];
  readonly protocol: 'h2' | 'http/1.1';
  readonly upstream: readonly EnvoyUpstream[];
  readonly envoyVersion?: string;
  readonly out?: string;
}

export const define: DefineCommand = (command, session) => {
  defineBootstrap(command.command('bootstrap'), session);
};

const authKinds: readonly Exclude<AuthKind, 'agent'>[] = ['google-grpc-token', 'envoy-grpc-token', 'client-certificate'];

function defineBootstrap(command: Command, session: Session): void {
  command
    .description('a complete Envoy configuration that takes its identity and trust from Signet')
    .addOption(
      new Option('--agent <socket>', 'take secrets from the agent on this host, by its unix socket').conflicts([
        'auth',
        'ca',
        'tokenFile',
        'certDir',
      ]),
    )
    .addOption(new Option('--auth <way>', 'how Envoy proves itself to a server (default: google-grpc-token)').choices(authKinds))
    .addOption(new Option('--api <type>', 'SDS as state of the world or incremental').choices(['sotw', 'delta']).default('sotw'))
    .addOption(
      new Option('--data <dir>', "the server's data folder, on its own host: for its server-ca.pem and trust domain").env('SIGNET_DATA'),
    )
    .option('--ca <file>', "PEM file that the server's certificate is pinned to, on Envoy's host")
    .option('--trust-domain <name>', "the server's trust domain")
    .addOption(addressOption('--server <host:port>', "the server's gRPC address, as Envoy reaches it", '127.0.0.1:8443'))
    .option('--token-file <file>', 'the service-account token, without a newline at its end')
    .option('--cert-dir <dir>', 'with client-certificate: the folder with tls.crt and tls.key')
    .option('--node <id>', "Envoy's node id, for logs and status (default: from the token file's name)")
    .option('--cluster <name>', "Envoy's node cluster (default: the trust domain)")
    .addOption(addressOption('--admin <host:port>', "Envoy's admin port", '127.0.0.1:9901'))
    .addOption(addressOption('--listen <host:port>', 'where Envoy takes mTLS', '0.0.0.0:15006'))
    .option('--no-inbound', 'no mTLS listener: a client only')
    .option('--app <host:port>', 'the application behind it, in clear (default: Envoy itself answers "ok")', addressArgument)
    .addOption(
      new Option('--caller <spiffe-id>', 'who may call; again for more').argParser(collectIds).default([], 'everybody of the trust domain'),
    )
    .addOption(new Option('--protocol <name>', 'preferred on the mTLS listener').choices(['h2', 'http/1.1']).default('h2'))
    .addOption(
      new Option(
        '--upstream <name=listen,address,spiffe-id>',
        'a destination: reached in clear on LISTEN, by mTLS at ADDRESS; again for more',
      )
        .argParser(collectUpstreams)
        .default([], 'none'),
    )
    .option('--envoy-version <x.y>', 'of the Envoy that will read it (default: the newest)')
    .option('--out <file>', 'write it there, and the file-SDS document that some ways need beside it')
    .addHelpText(
      'after',
      `
With --agent Envoy needs neither a token nor the server's address: give the socket and --trust-domain.

Ways to authenticate to a server (--auth):
  google-grpc-token   the token from --token-file, read at each stream's start
  envoy-grpc-token    the token from --token-file, by the credential injector; writes a second file, so it needs --out
  client-certificate  a certificate of the trust domain from --cert-dir; writes a second file, so it needs --out`,
    );
  examples(command, [
    ['signet envoy bootstrap --data .signet --token-file /tmp/web.token > web.yaml', 'an mTLS listener on port 15006 that answers "ok"'],
    [
      'signet envoy bootstrap --agent /run/signet/web/agent.sock --trust-domain example.org --api delta --app 127.0.0.1:8080 > web.yaml',
      'beside an agent, before an application',
    ],
    [
      'signet envoy bootstrap --auth envoy-grpc-token --api delta --ca server-ca.pem --trust-domain example.org --server signet.example.org:8443 --token-file /run/signet/token --app 127.0.0.1:8080 --out web.yaml',
      'before an application, away from the server',
    ],
    [
      'signet envoy bootstrap --data .signet --token-file web.token --upstream orders=127.0.0.1:9001,10.0.0.7:15006,spiffe://cluster.local/ns/shop/sa/orders > web.yaml',
      'with a destination by mTLS, reached on port 9001',
    ],
  ]);
  command.action((options: BootstrapOptions) => {
    const wrongUsage = (message: string): never => command.error(`signet: ${message}`, { exitCode: 2 });
    // From the environment it is meant for a whole session, other commands included.
    if (options.agent !== undefined && command.getOptionValueSource('data') === 'cli') wrongUsage('--agent needs no --data');
    const settings = bootstrapSettings(options, wrongUsage);
    const { bootstrap, secret } = renderEnvoyFiles(settings);
    if (options.out === undefined) {
      session.terminal.out(bootstrap);
      return;
    }
    replaceFile(options.out, bootstrap, 0o644);
    if (secret) replaceFile(secret.path, secret.text, 0o644);
    session.terminal.err(`wrote ${options.out}${secret ? ` and ${secret.path}` : ''}; start it with: envoy -c ${options.out}\n`);
  });
}

function bootstrapSettings(options: BootstrapOptions, wrongUsage: (message: string) => never): EnvoySettings {
  const { data, out } = options;
  if (options.agent !== undefined) return agentSettings(options, options.agent, wrongUsage);
  const serverCaFile = options.ca ?? (data === undefined ? undefined : dataFolderPaths(data).serverCa);
  if (serverCaFile === undefined) wrongUsage("say how the server is known: --data DIR on its own host, or --ca FILE on Envoy's");
  if (options.ca === undefined && !existsSync(serverCaFile)) {
    throw new SignetError('NOT_FOUND', `there is no ${serverCaFile}: start the server once, or name its server-ca.pem with --ca`);
  }
  const named = options.trustDomain ?? (data === undefined ? undefined : folderTrustDomain(data));
  if (named === undefined) wrongUsage("name the server's --trust-domain, or its folder with --data");
  const auth = authentication(options, out === undefined ? undefined : resolve(out), wrongUsage);
  return {
    ...commonSettings(options, checkedTrustDomain(named, wrongUsage)),
    auth,
    server: options.server,
    serverCaFile: resolve(serverCaFile),
  };
}

/** The server is the agent's business. */
function agentSettings(options: BootstrapOptions, socket: string, wrongUsage: (message: string) => never): EnvoySettings {
  const { trustDomain } = options;
  if (trustDomain === undefined) return wrongUsage('--agent needs --trust-domain');
  const auth: EnvoyAuth = { kind: 'agent', socket: resolve(socket) };
  return { ...commonSettings(options, checkedTrustDomain(trustDomain, wrongUsage)), auth, server: options.server, serverCaFile: '' };
}

function checkedTrustDomain(text: string, wrongUsage: (message: string) => never): TrustDomain {
  if (!isTrustDomain(text)) return wrongUsage('--trust-domain: a trust domain is 1 to 255 of a-z, 0-9, ".", "_" and "-"');
  return parseTrustDomain(text);
}

function commonSettings(options: BootstrapOptions, trustDomain: TrustDomain): Omit<EnvoySettings, 'auth' | 'server' | 'serverCaFile'> {
  return {
    node: { id: options.node ?? nodeId(options), cluster: options.cluster ?? trustDomain },
    trustDomain,
    api: options.api,
    admin: options.admin,
    inbound: options.inbound
      ? {
          listen: options.listen,
          app: options.app,
          callers: options.caller,
          alpn: options.protocol === 'h2' ? ['h2', 'http/1.1'] : ['http/1.1'],
        }
      : undefined,
    upstreams: options.upstream,
    envoyVersion: options.envoyVersion,
  };
}

function nodeId({ tokenFile, certDir, agent }: BootstrapOptions): string {
  return basename(tokenFile ?? certDir ?? (agent === undefined ? 'envoy' : dirname(resolve(agent)))).replace(/\.(token|jwt)$/, '');
}

/** The second document lies beside the first, under its name: two Envoys in one folder don't share it by accident. */
function authentication(options: BootstrapOptions, out: string | undefined, wrongUsage: (message: string) => never): EnvoyAuth {
  const kind = options.auth ?? 'google-grpc-token';
  const beside = (name: string): string => {
    if (out === undefined) return wrongUsage(`--auth ${kind} needs --out FILE: it writes a second file beside it`);
    return join(dirname(out), `${basename(out).replace(/\.ya?ml$/, '')}-${name}.yaml`);
  };
  if (kind === 'client-certificate') {
    if (options.certDir === undefined) return wrongUsage('--auth client-certificate needs --cert-dir');
    return { kind, certificateDirectory: resolve(options.certDir), certificateSecretFile: beside('certificate') };
  }
  if (options.tokenFile === undefined) return wrongUsage(`--auth ${kind} needs --token-file`);
  const tokenFile = resolve(options.tokenFile);
  return kind === 'google-grpc-token' ? { kind, tokenFile } : { kind, tokenFile, tokenSecretFile: beside('token') };
}

function collectIds(text: string, before: readonly string[]): readonly string[] {
  return [...before, spiffeIdArgument(text)];
}

function collectUpstreams(text: string, before: readonly EnvoyUpstream[]): readonly EnvoyUpstream[] {
  const [, name, listen, address, peer] = /^([a-z0-9][a-z0-9-]{0,62})=([^,]+),([^,]+),([^,]+)$/.exec(text) ?? [];
  if (name === undefined || listen === undefined || address === undefined || peer === undefined) {
    throw new InvalidArgumentError(
      'Write NAME=LISTEN,ADDRESS,SPIFFE_ID, for example orders=127.0.0.1:9001,10.0.0.7:15006,spiffe://example.org/ns/shop/sa/orders.',
    );
  }
  return [
    ...before,
    {
      name,
      listen: addressArgument(listen),
      address: addressArgument(address),
      peer: spiffeIdArgument(peer),
      protocol: 'h2',
      connectionPerRequest: false,
    },
  ];
}
