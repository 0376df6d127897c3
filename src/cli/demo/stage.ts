import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import type { Clock } from '../../base/clock.ts';
import { dataFolderPaths } from '../../store/data-folder.ts';
import { replaceFile } from '../../store/atomic-file.ts';
import type { CertificateClient } from '../certificate-client.ts';
import { openCertificateClient } from '../certificate-client.ts';
import { openDataFolderIssuer } from '../dev-issuer-file.ts';
import { addressArgument } from '../options.ts';
import { bindOnce } from '../key-binding.ts';
import { openKeyFolder } from '../key-folder.ts';
import type { Application } from './application.ts';
import { startApplication } from './application.ts';
import { startChild } from './child.ts';
import type { Target } from './client.ts';
import { freePorts } from './free-ports.ts';
import { startSidecar } from './sidecar.ts';

/** Everything that the demo's client talks to, in a temporary folder; `close` leaves nothing of it. */
export interface Stage {
  /** The server's data folder. */
  readonly data: string;
  readonly targets: readonly Target[];
  /** Signet as the client workload reaches it. */
  readonly certificates: CertificateClient;
  /** New token files, long before the old ones end. */
  renewTokens(): Promise<void>;
  close(): Promise<void>;
}

export interface StageSettings {
  readonly leafTtl: string;
  readonly envoyBinary: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly progress: (line: string) => void;
  readonly signal: AbortSignal;
}

const trustDomain = 'cluster.local';
const namespace = 'shop';
const tokenLifeMs = 12 * 3_600_000;
const serverStartMs = 30_000;

export function idOf(service: string): string {
  return `spiffe://${trustDomain}/ns/${namespace}/sa/${service}`;
}

export async function setStage(settings: StageSettings): Promise<Stage> {
  const closers: (() => Promise<void> | void)[] = [];
  const close = async (): Promise<void> => {
    // The last started first: who calls before who is called.
    for (let closer = closers.pop(); closer; closer = closers.pop()) await closer();
  };
  try {
    return { ...(await build(settings, (closer) => closers.push(closer))), close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function build(settings: StageSettings, onClose: (closer: () => Promise<void> | void) => void): Promise<Omit<Stage, 'close'>> {
  const { clock, progress, signal, envoyBinary } = settings;
  const folder = await mkdtemp(join(tmpdir(), 'signet-demo-'));
  onClose(() => rm(folder, { recursive: true, force: true }));
  const data = join(folder, 'signet');
  const paths = dataFolderPaths(data);
  const keyDirectory = join(folder, 'orders', 'keys');

  progress('starting the server');
  const server = addressArgument(await startServer(settings, { folder, data, keyDirectory }, onClose));
  const serverAddress = `${server.host}:${String(server.port)}`;
  const tokenFile = (service: string): string => join(folder, `${service}.token`);
  const renewTokens = async (): Promise<void> => {
    const issuer = await openDataFolderIssuer(data, clock);
    for (const service of ['web', 'orders', 'client']) {
      replaceFile(tokenFile(service), await issuer.mint({ namespace, serviceAccount: service, audience: 'signet', ttlMs: tokenLifeMs }));
    }
  };
  await renewTokens();
  const workload = (service: string): Promise<CertificateClient> =>
    openCertificateClient({
      server: serverAddress,
      caFile: paths.serverCa,
      serverName: undefined,
      tokenFile: tokenFile(service),
      instance: undefined,
    });

  progress('binding a key of orders, which never leaves its folder');
  await bindOrders(await workload('orders'), keyDirectory, clock);

  progress('starting two services, each behind an Envoy of its own');
  const [webDoor = 0, webAdmin = 0, webOut = 0, ordersDoor = 0, ordersAdmin = 0] = await freePorts(5);
  const keep = async (starting: Promise<Application>): Promise<Application> => {
    const application = await starting;
    onClose(() => application.close());
    return application;
  };
  const at = (port: number) => ({ host: '127.0.0.1', port });
  const orders = await keep(startApplication({ name: 'orders', ...at(0) }));
  const web = await keep(startApplication({ name: 'web', ...at(0), next: at(webOut) }));
  const common = { trustDomain, server, serverCaFile: paths.serverCa };
  const alpn = ['http/1.1'] as const;
  const sidecars = await Promise.allSettled([
    startSidecar(
      envoyBinary,
      {
        ...common,
        name: 'orders',
        folder: join(folder, 'orders'),
        tokenFile: tokenFile('orders'),
        adminPort: ordersAdmin,
        api: 'delta',
        inbound: { listen: at(ordersDoor), app: at(orders.port), callers: [idOf('web'), idOf('client')], alpn },
        upstreams: [],
      },
      signal,
    ),
    startSidecar(
      envoyBinary,
      {
        ...common,
        name: 'web',
        folder: join(folder, 'web'),
        tokenFile: tokenFile('web'),
        adminPort: webAdmin,
        api: 'sotw',
        inbound: { listen: at(webDoor), app: at(web.port), callers: [idOf('client')], alpn },
        upstreams: [
          {
            name: 'orders',
            listen: at(webOut),
            address: at(ordersDoor),
            peer: idOf('orders'),
            protocol: 'http/1.1',
            connectionPerRequest: true,
          },
        ],
      },
      signal,
    ),
  ]);
  for (const sidecar of sidecars) if (sidecar.status === 'fulfilled') onClose(() => sidecar.value.stop());
  for (const sidecar of sidecars) if (sidecar.status === 'rejected') throw sidecar.reason;
  const certificates = await workload('client');
  onClose(() => {
    certificates.close();
  });
  return { data, certificates, renewTokens, targets: targets({ webDoor, ordersDoor }) };
}

function targets({ webDoor, ordersDoor }: { readonly webDoor: number; readonly ordersDoor: number }): readonly Target[] {
  const client = idOf('client');
  return [
    // Through both Envoys: each hop must have seen exactly the identity before it.
    {
      name: 'web',
      address: { host: '127.0.0.1', port: webDoor },
      spiffeId: idOf('web'),
      expected: ({ caller, next }) => caller === client && next?.caller === idOf('web'),
    },
    {
      name: 'orders',
      address: { host: '127.0.0.1', port: ordersDoor },
      spiffeId: idOf('orders'),
      expected: ({ caller }) => caller === client,
    },
  ];
}

/** The gRPC address that the server says it has. */
async function startServer(
  settings: StageSettings,
  where: { readonly folder: string; readonly data: string; readonly keyDirectory: string },
  onClose: (closer: () => Promise<void>) => void,
): Promise<string> {
  const config = join(where.folder, 'signet.yaml');
  const keyModes = [{ match: `/ns/${namespace}/sa/orders`, mode: 'csr', keyDirectories: [where.keyDirectory] }];
  replaceFile(config, stringify({ policy: { keyModes } }));
  // The same program that runs now: main.ts in a checkout, main.js when installed.
  const main = fileURLToPath(new URL(`../../main${extname(import.meta.url)}`, import.meta.url));
  const loopback = '127.0.0.1:0';
  const args = [
    'server',
    '--dev',
    '--config',
    config,
    '--data',
    where.data,
    '--grpc',
    loopback,
    '--http',
    loopback,
    '--leaf-ttl',
    settings.leafTtl,
  ];
  // Settings in the environment are meant for another server.
  const env = Object.fromEntries(Object.entries(settings.env).filter(([name]) => !name.startsWith('SIGNET_')));
  const child = startChild('the server', process.execPath, [main, ...args], { logFile: join(where.folder, 'server.log'), env });
  onClose(() => child.stop());
  const [, address = ''] = await child.printed(/^ready pid=\d+ grpc=(\S+) /m, serverStartMs);
  return address;
}

/** What `signet csr` does on the host of a service. */
async function bindOrders(client: CertificateClient, keyDirectory: string, clock: Clock): Promise<void> {
  const keys = await openKeyFolder(keyDirectory, () => clock.now());
  try {
    await bindOnce({ folder: keys, keyDirectory, algorithm: 'ec-p256', bindKey: (request) => client.bindKey(request) }, false);
  } finally {
    keys.close();
    client.close();
  }
}
