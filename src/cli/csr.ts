import { Option } from 'commander';
import { resolve } from 'node:path';
import { backoffMs } from '../base/backoff.ts';
import { SignetError } from '../base/errors.ts';
import { dataFolderPaths } from '../store/data-folder.ts';
import { authority } from './envoy-config/yaml.ts';
import type { BoundKey, CertificateClient } from './certificate-client.ts';
import { openCertificateClient } from './certificate-client.ts';
import { printFailure } from './failure.ts';
import type { KeyFolder } from './key-folder.ts';
import { openKeyFolder } from './key-folder.ts';
import { bindOnce } from './key-binding.ts';
import { addressOption, durationArgument, jsonOption } from './options.ts';
import type { DefineCommand, Session } from './session.ts';
import { examples } from './session.ts';
import { pause } from './pause.ts';
import { isoTime, relativeTime } from './times.ts';

interface CsrOptions {
  readonly server: { readonly host: string; readonly port: number };
  readonly ca?: string;
  readonly data?: string;
  readonly serverName?: string;
  readonly tokenFile: string;
  readonly keyDir: string;
  readonly instance?: string;
  readonly algorithm: 'ec-p256' | 'ec-p384';
  readonly keep: number;
  readonly watch?: true;
  readonly json?: true;
}

const day = 86_400_000;
/** The server warns from 75 % of keyMaxAge on; by then the new key has long been bound. */
const renewAtShareOfAge = 0.7;
const retries = { baseMs: 1000, maxMs: 60_000 };
/** How often a watch looks for superseded keys to remove, at most. */
const longestPause = 3_600_000;

export const define: DefineCommand = (command, session) => {
  command
    .addOption(addressOption('--server <host:port>', "the server's gRPC address", '127.0.0.1:8443'))
    .addOption(new Option('--ca <file>', "PEM file that the server's certificate is pinned to: its server-ca.pem").conflicts('data'))
    .addOption(new Option('--data <dir>', "the server's data folder, on the server's own host: for its server-ca.pem"))
    .option('--server-name <name>', "the name to find in the server's certificate (default: the host)")
    .requiredOption('--token-file <file>', "the workload's service-account token, read anew each time")
    .requiredOption('--key-dir <dir>', 'where the key goes, as Envoy knows the folder; made (0700) if missing')
    .option('--instance <name>', 'which bearer of the identity this is, where tokens name none')
    .addOption(new Option('--algorithm <name>', 'of the key').choices(['ec-p256', 'ec-p384']).default('ec-p256'))
    .addOption(new Option('--keep <duration>', 'how long a superseded key stays').argParser(durationArgument()).default(day, '24h'))
    .option('--watch', 'stay, and bind a new key well before keyMaxAge')
    .addOption(jsonOption('print each binding as a line of JSON'))
    .addHelpText(
      'after',
      `
For identities in key mode csr. The private key is written to <key-dir>/<SHA-256 of the public key>.key (0600) before the
server hears of it, and never leaves this host. Envoy gets the certificates by SDS, with that file's name.

A superseded key stays for --keep, so that an Envoy that was away or refused the new chain still finds it; choose no less
than a certificate's life. Only keys that \`signet csr\` made are ever removed. One folder per workload instance.`,
    );
  examples(command, [
    [
      'signet csr --server signet.example.org:8443 --ca server-ca.pem --token-file /run/signet/token --key-dir /run/signet/keys',
      'a new key, once',
    ],
    [
      'signet csr --data .signet --token-file web.token --key-dir /tmp/web-keys --watch',
      'beside a development server; renew the key for ever',
    ],
  ]);
  command.action(async (options: CsrOptions) => {
    if ((options.ca === undefined) === (options.data === undefined))
      command.error('signet: say how the server is known: --ca FILE, or --data DIR on its own host', { exitCode: 2 });
    await csr(options, session);
  });
};

async function csr(options: CsrOptions, session: Session): Promise<void> {
  const directory = resolve(options.keyDir);
  const client = await openCertificateClient({
    server: authority(options.server),
    caFile: options.ca ?? dataFolderPaths(options.data ?? '').serverCa,
    serverName: options.serverName,
    tokenFile: options.tokenFile,
    instance: options.instance,
  });
  try {
    const folder = await openKeyFolder(directory, () => session.clock.now());
    try {
      if (options.watch) await watch(options, directory, { folder, client }, session);
      else await bind(options, directory, { folder, client }, session, false);
    } finally {
      folder.close();
    }
  } finally {
    client.close();
  }
}

interface Tools {
  readonly folder: KeyFolder;
  readonly client: CertificateClient;
}

async function bind(
  options: CsrOptions,
  keyDirectory: string,
  { folder, client }: Tools,
  session: Session,
  again: boolean,
  signal?: AbortSignal,
): Promise<BoundKey> {
  const bindKey = (request: { csr: Buffer; keyDirectory: string }): Promise<BoundKey> => client.bindKey(request, signal);
  const bound = await bindOnce({ folder, keyDirectory, algorithm: options.algorithm, bindKey }, again);
  report(bound, options, session);
  await folder.removeSuperseded(session.clock.now() - options.keep);
  return bound;
}

/** At its start it offers the key that is bound already: a restart wears out no key. Failures are told and tried again, for ever. */
async function watch(options: CsrOptions, keyDirectory: string, tools: Tools, session: Session): Promise<void> {
  const { terminal, clock } = session;
  const signal = terminal.interrupted();
  let again = true;
  let failures = 0;
  let renewAt = 0;
  while (!signal.aborted) {
    if (clock.now() < renewAt) {
      await tools.folder.removeSuperseded(clock.now() - options.keep);
      await pause(Math.min(renewAt - clock.now(), longestPause, Math.max(1000, options.keep / 2)), signal);
      continue;
    }
    try {
      const bound = await bind(options, keyDirectory, tools, session, again, signal);
      renewAt = renewalTime(tools.folder, bound.keyEnds * 1000, clock.now());
      again = false;
      failures = 0;
    } catch (error) {
      if (wasInterrupted(signal)) return;
      // The key is past its age, or its file went: offering it again would be refused for ever.
      if (SignetError.from(error).code === 'BINDING_CONFLICT') again = false;
      printFailure(terminal, error);
      await pause(backoffMs(failures++, retries, Math.random), signal);
    }
  }
}

/** A function, for the compiler takes it that nothing changes while we wait. */
function wasInterrupted(signal: AbortSignal): boolean {
  return signal.aborted;
}

function renewalTime(folder: KeyFolder, keyEnds: number, now: number): number {
  const madeAt = folder.bound()?.madeAt ?? now;
  return madeAt + (keyEnds - madeAt) * renewAtShareOfAge;
}

function report(bound: BoundKey, { json }: CsrOptions, { terminal, clock }: Session): void {
  const keyEnds = bound.keyEnds * 1000;
  if (json) {
    terminal.out(`${JSON.stringify({ ...bound, keyEnds: isoTime(keyEnds) })}\n`);
    return;
  }
  terminal.out(
    `bound ${bound.keyFile} to ${bound.spiffeId}, instance ${bound.instance}; the key ends ${relativeTime(keyEnds, clock.now())}\n`,
  );
}
