import { mkdir, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { renderEnvoyFiles } from '../../src/cli/envoy-config/bootstrap.ts';
import type { EnvoyApi, EnvoyAuth, EnvoySettings, EnvoyUpstream } from '../../src/cli/envoy-config/settings.ts';
import { startAgentProcess, type AgentProcess } from './agent-process.ts';
import { startEnvoy, type RunningEnvoy } from './envoy.ts';
import { eventually } from './eventually.ts';
import { tlsIdentity, type HttpVersion, type MtlsTarget, type TlsIdentity } from './mtls-request.ts';
import { freePort } from './ports.ts';
import { askAdmin, mintToken, serverCa, signetDone, startSignet, type RunningSignet } from './signet.ts';
import { replaceFile, tempFolder } from './temp.ts';
import { workloadClient, type WorkloadClient } from './workload-client.ts';

export const trustDomain = 'cluster.local';
export const idOf = (serviceAccount: string): string => `spiffe://${trustDomain}/ns/shop/sa/${serviceAccount}`;

/** How one Envoy of a test is set up; what is left out is SotW with google_grpc on the newest Envoy, keys by the server. */
export interface EnvoyWish {
  /** Those that start with `csr-` keep their keys to themselves, by `signet csr`; for the others the server makes them. */
  readonly serviceAccount: string;
  readonly pod?: string;
  readonly auth?: EnvoyAuth['kind'];
  readonly api?: EnvoyApi;
  readonly version?: '1.40.0' | '1.36.4';
  /** Another Envoy's inbound listener: every request goes on to it by mTLS, on a new connection each time. */
  readonly upstream?: { readonly workload: Workload; readonly protocol: EnvoyUpstream['protocol'] };
  /** Edits the bootstrap before the start. */
  readonly bootstrap?: (text: string, folder: string) => string;
  /** A proxy before Signet, by which this workload reaches it, with the CA that its certificate is of. */
  readonly reachedBy?: { readonly port: number; readonly ca: string };
  /** More flags of the agent, for `auth: 'agent'`. */
  readonly agentArgs?: readonly string[];
}

/** An Envoy that has its identity from Signet, and the folder of files on its host. */
export interface Workload {
  readonly id: string;
  readonly envoy: RunningEnvoy;
  readonly port: number;
  readonly folder: string;
  readonly tokenFile: string;
  readonly keyFolder: string;
  /** For `auth: 'agent'`: the one that serves this workload alone. */
  readonly agent: AgentProcess | undefined;
  target(http: HttpVersion): MtlsTarget;
}

/** One Signet, the Envoys around it and a client of its own, all gone with `await using`. */
export interface Mesh extends AsyncDisposable {
  readonly folder: string;
  readonly signet: RunningSignet;
  /** Writes the configuration anew, with this instead of `config`, and sends SIGHUP: what the server said of it. */
  reload(config: Readonly<Record<string, unknown>>): Promise<string>;
  /** Replaces the file of roots that workloads trust beside our own. */
  replaceExtraRoots(pem: string): Promise<void>;
  /** Ends the server with the signal, and starts it again on the same ports after `pauseMs`. */
  restart(signal: NodeJS.Signals, pauseMs?: number): Promise<void>;
  stop(signal: NodeJS.Signals): Promise<void>;
  start(): Promise<void>;
  workload(wish: EnvoyWish): Promise<Workload>;
  /** A client of the workload APIs as one pod. */
  api(serviceAccount: string, pod?: string): Promise<WorkloadClient>;
  /** What the load client shows: a certificate that outlives the test, so that what fails is Envoy's side. It trusts the bundle of the start, or these (PEM). */
  client(anchors?: string): TlsIdentity;
  /** As `signet certs renew`: how many certificates were made, 0 while no stream of the identity is there. */
  renew(id: string): Promise<number>;
  /** PEM of the anchors that the server publishes in its data folder. */
  bundle(): Promise<string>;
  /** Puts a new token into a workload's file, as the kubelet does. */
  freshToken(workload: Workload, ttlMs?: number): Promise<void>;
}

export interface MeshWish {
  readonly leafTtl: string;
  /** Lives of tokens in the Envoys' files. */
  readonly tokenTtlMs?: number;
  /** PEM of roots that workloads trust beside our own; needed for `replaceExtraRoots`. */
  readonly extraRoots?: string;
  /** Instead of "csr for `csr-*`", given the folder under which keys are. */
  readonly keyModes?: (folder: string) => readonly object[];
  /** More of the configuration file. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly grpc?: string;
  /** More environment for the server. */
  readonly env?: Readonly<Record<string, string>>;
  /** A server whose CA can be made to hang and to fail, by `signet.authority`. */
  readonly outages?: boolean;
  /** How often the certificate that an Envoy shows instead of a token is replaced; never when undefined. */
  readonly bootstrapEveryMs?: number;
}

/** What the server said of each attempt to load its configuration again, by its log. */
function reloads(log: string): string[] {
  return log.split('\n').filter((line) => /"message":"the configuration was (?:not )?loaded again/.test(line));
}

export async function startMesh(wish: MeshWish): Promise<Mesh> {
  const folder = await tempFolder();
  const rootsFile = folder.file('extra-roots.pem');
  const configFile = folder.file('signet.yaml');
  const configText = (extra: Readonly<Record<string, unknown>>): string =>
    stringify({
      ...extra,
      ca: { trustedRoots: wish.extraRoots === undefined ? [] : [rootsFile], ...(extra.ca as object | undefined) },
      policy: {
        rules: [{ match: '/ns/load/**', tier: 'critical' }],
        keyModes: wish.keyModes?.(folder.path) ?? [{ match: '/ns/shop/sa/csr-*', mode: 'csr', keyDirectories: [folder.path] }],
        ...(extra.policy as object | undefined),
      },
    });
  if (wish.extraRoots !== undefined) await writeFile(rootsFile, wish.extraRoots);
  await writeFile(configFile, configText(wish.config ?? {}));
  let signet = await startSignet({
    data: folder.file('data'),
    leafTtl: wish.leafTtl,
    ...(wish.env ? { env: wish.env } : {}),
    ...(wish.outages ? { outagesWith: configFile } : { args: ['--config', configFile] }),
    ...(wish.grpc ? { grpc: wish.grpc } : {}),
  });
  const workloads: Workload[] = [];

  async function api(namespace: string, serviceAccount: string, pod?: string): Promise<WorkloadClient> {
    const token = await mintToken(signet.data, { namespace, serviceAccount, ...(pod ? { pod } : {}) });
    return workloadClient({
      address: signet.grpc,
      serverCa: await serverCa(signet.data),
      token,
      spiffeId: `spiffe://cluster.local/ns/${namespace}/sa/${serviceAccount}`,
    });
  }

  const loader = await api('load', 'client');
  const credential = await loader.credential();
  loader.close();
  const client = tlsIdentity(credential, credential.anchors);

  const mesh: Mesh = {
    folder: folder.path,
    get signet() {
      return signet;
    },
    async reload(extra) {
      await writeFile(configFile, configText(extra));
      const before = reloads(await signet.log());
      process.kill(signet.pid, 'SIGHUP');
      return eventually(
        'the reload',
        async () =>
          reloads(await signet.log())
            .slice(before.length)
            .at(0),
        120_000,
      );
    },
    replaceExtraRoots: async (pem) => replaceFile(rootsFile, pem, 0o644),
    async restart(signal, pauseMs = 0) {
      await mesh.stop(signal);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
      await mesh.start();
    },
    stop: async (signal) => signet.kill(signal),
    async start() {
      signet = await signet.restart();
    },
    async workload(envoyWish) {
      const workload = await startWorkload(
        join(folder.path, `w${String(workloads.length)}`),
        signet,
        envoyWish,
        wish.tokenTtlMs,
        wish.bootstrapEveryMs,
        api,
      );
      workloads.push(workload);
      return workload;
    },
    api: async (serviceAccount, pod) => api('shop', serviceAccount, pod),
    client: (anchors) => (anchors === undefined ? client : tlsIdentity(credential, anchors)),
    renew: async (spiffeId) => (await askAdmin(signet.data, async (admin) => admin.renew({ spiffeId, instance: '' }))).length,
    bundle: async () => readFile(join(signet.data, 'bundle.pem'), 'utf8'),
    async freshToken(workload, ttlMs = 3_600_000) {
      const serviceAccount = workload.id.split('/').at(-1) ?? '';
      await replaceFile(workload.tokenFile, await mintToken(signet.data, { namespace: 'shop', serviceAccount, ttlMs }));
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(workloads.map(async ({ envoy }) => envoy[Symbol.asyncDispose]()));
      await Promise.all(workloads.map(async ({ agent }) => agent?.[Symbol.asyncDispose]()));
      await signet[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
  return mesh;
}

async function startWorkload(
  folder: string,
  signet: RunningSignet,
  wish: EnvoyWish,
  tokenTtlMs: number | undefined,
  bootstrapEveryMs: number | undefined,
  apiOf: (namespace: string, serviceAccount: string, pod?: string) => Promise<WorkloadClient>,
): Promise<Workload> {
  const { serviceAccount, pod, version = '1.40.0', upstream } = wish;
  const [tokenFolder, keyFolder, serverCaFile] = [join(folder, 'token'), join(folder, 'keys'), join(folder, 'server-ca.pem')];
  await mkdir(tokenFolder, { recursive: true });
  await writeFile(serverCaFile, wish.reachedBy?.ca ?? (await serverCa(signet.data)));
  const serverPort = wish.reachedBy?.port ?? signet.grpcPort;
  const tokenFile = join(tokenFolder, 'token');
  const token = await mintToken(signet.data, {
    namespace: 'shop',
    serviceAccount,
    ...(tokenTtlMs ? { ttlMs: tokenTtlMs } : {}),
    ...(pod ? { pod } : {}),
  });
  await writeFile(tokenFile, token, { mode: 0o600 });
  if (serviceAccount.startsWith('csr-')) await bindKey(`127.0.0.1:${String(serverPort)}`, { tokenFile, keyFolder, serverCaFile });
  const auth = authOf(wish.auth ?? 'google-grpc-token', folder, tokenFile);
  const agent =
    auth.kind === 'agent'
      ? await startAgentProcess({
          folder,
          server: `127.0.0.1:${String(serverPort)}`,
          trustDomain,
          serverCaFile,
          tokenFile,
          socket: auth.socket,
          ...(wish.agentArgs ? { args: wish.agentArgs } : {}),
        })
      : undefined;
  const api = async (): Promise<WorkloadClient> => apiOf('shop', serviceAccount, pod);
  const bootstrap = auth.kind === 'client-certificate' ? await keepBootstrapCertificate(folder, api, bootstrapEveryMs) : undefined;
  const outbound = upstream ? { host: '127.0.0.1', port: await freePort() } : undefined;
  const settings: EnvoySettings = {
    node: { id: pod ?? `${serviceAccount}-0`, cluster: 'test' },
    trustDomain,
    auth,
    api: wish.api ?? 'sotw',
    server: { host: '127.0.0.1', port: serverPort },
    serverCaFile,
    admin: { host: '127.0.0.1', port: 0 },
    inbound: { listen: { host: '127.0.0.1', port: 0 }, app: outbound, callers: [], alpn: ['h2', 'http/1.1'] },
    upstreams:
      upstream && outbound
        ? [
            {
              name: 'next',
              listen: outbound,
              address: { host: '127.0.0.1', port: upstream.workload.port },
              peer: upstream.workload.id,
              protocol: upstream.protocol,
              connectionPerRequest: true,
            },
          ]
        : [],
    envoyVersion: version,
  };
  const { bootstrap: text, secret } = renderEnvoyFiles(settings);
  if (secret) await writeFile(secret.path, secret.text);
  const envoy = await startEnvoy({ bootstrap: wish.bootstrap ? wish.bootstrap(text, folder) : text, version });
  void envoy.exited.then(() => bootstrap?.stop());
  try {
    await envoy.ready();
    const port = await envoy.port('inbound');
    const id = idOf(serviceAccount);
    // Not /certs: it also shows the certificate that Envoy shows to Signet.
    await eventually('the first certificate', async () => ((await envoy.stat('sds.default.update_success')) > 0 ? true : undefined));
    return { id, envoy, port, folder, tokenFile, keyFolder, agent, target: (http) => ({ port, peer: id, http }) };
  } catch (error) {
    const [envoyLog, signetLog] = [(await envoy.log()).slice(-3000), (await signet.log()).slice(-3000)];
    const agentLog = (await agent?.log())?.slice(-3000) ?? '';
    await envoy[Symbol.asyncDispose]();
    await agent?.[Symbol.asyncDispose]();
    throw new Error(`${serviceAccount} did not come up\n${envoyLog}\n${signetLog}\n${agentLog}`, { cause: error });
  }
}

function authOf(kind: EnvoyAuth['kind'], folder: string, tokenFile: string): EnvoyAuth {
  switch (kind) {
    case 'google-grpc-token':
      return { kind, tokenFile };
    case 'envoy-grpc-token':
      return { kind, tokenFile, tokenSecretFile: join(folder, 'token-secret.yaml') };
    case 'client-certificate':
      return { kind, certificateDirectory: join(folder, 'bootstrap'), certificateSecretFile: join(folder, 'certificate-secret.yaml') };
    case 'agent':
      return { kind, socket: join(folder, 'agent', 'agent.sock') };
  }
}

/**
 * What provisions a host does: the certificate and key that Envoy shows to Signet, switched at once by one rename, as the
 * kubelet does it.
 */
async function keepBootstrapCertificate(
  folder: string,
  api: () => Promise<WorkloadClient>,
  everyMs: number | undefined,
): Promise<{ stop(): void }> {
  const directory = join(folder, 'bootstrap');
  await mkdir(directory);
  for (const name of ['tls.crt', 'tls.key']) await symlink(`..data/${name}`, join(directory, name));
  let count = 0;
  const replace = async (): Promise<void> => {
    const client = await api();
    try {
      const credential = await client.credential();
      const name = `..${String(++count)}`;
      await mkdir(join(directory, name));
      await writeFile(join(directory, name, 'tls.crt'), credential.certificate);
      await writeFile(join(directory, name, 'tls.key'), credential.key, { mode: 0o600 });
      await symlink(name, join(directory, '..data.new'));
      await rename(join(directory, '..data.new'), join(directory, '..data'));
    } finally {
      client.close();
    }
  };
  await replace();
  let busy = false;
  const timer = setInterval(
    () => {
      if (busy) return;
      busy = true;
      // The server may be away; the next turn tries again.
      void replace()
        .catch(() => undefined)
        .finally(() => {
          busy = false;
        });
    },
    everyMs ?? 2 ** 31 - 1,
  ).unref();
  return {
    stop() {
      clearInterval(timer);
    },
  };
}

/** `signet csr` once, as a workload's host runs it. */
export async function bindKey(
  server: string,
  files: { readonly tokenFile: string; readonly keyFolder: string; readonly serverCaFile: string },
): Promise<void> {
  const { tokenFile, keyFolder, serverCaFile } = files;
  await signetDone(['csr', '--server', server, '--ca', serverCaFile, '--token-file', tokenFile, '--key-dir', keyFolder]);
}
