import { spawn, type ChildProcess } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { envoyBinary, defaultEnvoyVersion } from '../../src/cli/envoy-binary.ts';
import { eventually, Hopeless } from './eventually.ts';
import { endChild, keepTrack } from './process.ts';
import { tempFolder } from './temp.ts';

export { envoyBinary };

export interface EnvoyCertificate {
  /** Lower-case hex without leading zeros, as `normalSerial` gives. */
  readonly serial: string;
  readonly uris: readonly string[];
  readonly expires: number;
}

export interface RunningEnvoy extends AsyncDisposable {
  readonly pid: number;
  readonly adminPort: number;
  readonly version: string;
  /** The port that a listener got, by the listener's name. */
  port(listener: string): Promise<number>;
  /** Resolves once all secrets that the start waits for are there, or their time is up. */
  ready(ms?: number): Promise<void>;
  /** The identities in force, by /certs: unlike /config_dump it doesn't show refused ones. */
  identities(): Promise<readonly EnvoyCertificate[]>;
  /** Subjects' serials of the trusted CAs in force. */
  anchors(): Promise<readonly string[]>;
  /** A counter or gauge, 0 when Envoy has none of this name. */
  stat(name: string): Promise<number>;
  /** Statistics whose names match the regular expression, numbers and texts. */
  stats(filter: string): Promise<ReadonlyMap<string, string>>;
  admin(path: string): Promise<string>;
  log(): Promise<string>;
  stop(signal?: NodeJS.Signals): Promise<void>;
  readonly exited: Promise<void>;
}

/** Serials are numbers: programs differ in case and in leading zeros. */
export function normalSerial(hex: string): string {
  return hex.toLowerCase().replace(/^0+(?=.)/, '');
}

/**
 * Starts an Envoy on a bootstrap that asks for admin port 0. It shares no memory with another one (no hot restart), so any
 * number run side by side.
 */
export async function startEnvoy(options: {
  readonly bootstrap: string;
  readonly version?: string;
  readonly logLevel?: string;
}): Promise<RunningEnvoy> {
  const version = options.version ?? defaultEnvoyVersion;
  const binary = await envoyBinary(version);
  const folder = await tempFolder();
  const [config, adminFile, logFile] = [folder.file('envoy.yaml'), folder.file('admin'), folder.file('envoy.log')];
  await writeFile(config, options.bootstrap);
  const args = [
    '-c',
    config,
    '--concurrency',
    '1',
    '--disable-hot-restart',
    '--file-flush-interval-msec',
    '100',
    '--admin-address-path',
    adminFile,
  ];
  const child = spawn(binary, [...args, '--log-path', logFile, '--log-level', options.logLevel ?? 'info'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  keepTrack(child);
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr = (stderr + chunk).slice(-4000)));
  const log = (): Promise<string> => readFile(logFile, 'utf8').catch(() => '');
  const alive = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) return;
    throw new Hopeless(
      `Envoy ${version} stopped (${String(child.exitCode ?? child.signalCode)}): ${stderr}\n${(await log()).slice(-3000)}`,
    );
  };
  try {
    const adminPort = await eventually('the admin address of Envoy', async () => {
      await alive();
      const port = Number((await readFile(adminFile, 'utf8')).split(':').at(-1));
      return port > 0 ? port : undefined;
    });
    return running({ child, adminPort, version, alive, log, dispose: async () => folder[Symbol.asyncDispose]() });
  } catch (error) {
    await endChild(child);
    await folder[Symbol.asyncDispose]();
    throw error;
  }
}

function running(envoy: {
  child: ChildProcess;
  adminPort: number;
  version: string;
  alive: () => Promise<void>;
  log: () => Promise<string>;
  dispose: () => Promise<void>;
}): RunningEnvoy {
  const { child, adminPort, version } = envoy;
  const exited = new Promise<void>((resolve) =>
    child.once('exit', () => {
      resolve();
    }),
  );

  async function admin(path: string): Promise<string> {
    const response = await fetch(`http://127.0.0.1:${String(adminPort)}${path}`, { signal: AbortSignal.timeout(10_000) });
    return response.text();
  }

  async function certs(): Promise<CertsPage> {
    return JSON.parse(await admin('/certs')) as CertsPage;
  }

  async function stats(filter: string): Promise<ReadonlyMap<string, string>> {
    const text = await admin(`/stats?filter=${encodeURIComponent(filter)}`);
    const lines = text.split('\n').flatMap((line): [string, string][] => {
      const at = line.indexOf(': ');
      return at < 0 ? [] : [[line.slice(0, at), line.slice(at + 2)]];
    });
    return new Map(lines);
  }

  return {
    pid: child.pid ?? 0,
    adminPort,
    version,
    exited,
    admin,
    stats,
    log: envoy.log,
    async port(listener) {
      return eventually(`listener ${listener}`, async () => {
        const page = JSON.parse(await admin('/listeners?format=json')) as ListenersPage;
        return page.listener_statuses?.find((status) => status.name === listener)?.local_address.socket_address?.port_value;
      });
    },
    async ready(ms = 30_000) {
      await eventually(
        'Envoy ready',
        async () => {
          await envoy.alive();
          return (await admin('/ready')).trim() === 'LIVE' ? true : undefined;
        },
        ms,
      );
    },
    async identities() {
      const chains = (await certs()).certificates.flatMap((entry) => entry.cert_chain.slice(0, 1));
      return chains.map((leaf) => ({
        serial: normalSerial(leaf.serial_number),
        uris: (leaf.subject_alt_names ?? []).flatMap((name) => name.uri ?? []),
        expires: Date.parse(leaf.expiration_time),
      }));
    },
    async anchors() {
      return (await certs()).certificates.flatMap((entry) => entry.ca_cert).map((ca) => normalSerial(ca.serial_number));
    },
    async stat(name) {
      const found = await stats(`^${name.replaceAll('.', '\\.')}$`);
      return Number(found.get(name) ?? 0);
    },
    async stop(signal = 'SIGTERM') {
      await endChild(child, signal);
    },
    async [Symbol.asyncDispose]() {
      await endChild(child);
      await envoy.dispose();
    },
  };
}

interface AdminCertificate {
  readonly serial_number: string;
  readonly subject_alt_names?: readonly { readonly uri?: string }[];
  readonly expiration_time: string;
}

interface CertsPage {
  readonly certificates: readonly { readonly ca_cert: readonly AdminCertificate[]; readonly cert_chain: readonly AdminCertificate[] }[];
}

interface ListenersPage {
  readonly listener_statuses?: readonly {
    readonly name: string;
    readonly local_address: { readonly socket_address?: { readonly port_value: number } };
  }[];
}
