import { Client, credentials, Metadata } from '@grpc/grpc-js';
import type { ChannelCredentials } from '@grpc/grpc-js';
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { loadConfig } from '../../src/server/config/load.ts';
import type { ConfigInput } from '../../src/server/config/schema.ts';
import { mergeLayers } from '../../src/config/schema-path.ts';
import { startServer } from '../../src/server/start.ts';
import type { RunningServer } from '../../src/server/running-server.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair, privateKeyPem } from '../../src/x509/keys.ts';
import type { KeyPair } from '../../src/x509/keys.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { grpcCaller, infoOf } from './grpc-caller.ts';
import type { GrpcCaller, Refusal } from './grpc-caller.ts';
import { rawSdsClient } from './raw-sds-client.ts';
import type { RawSdsClient, RawStream } from './raw-sds-client.ts';
import { tempFolder } from './temp.ts';
import type { TempFolder } from './temp.ts';
import { ecKey, keySet, podClaims, signToken } from './token-forge.ts';
import type { IssuerKey } from './token-forge.ts';

/** One pod of a service account, as its token says. Another uid is another pod of the same account. */
export interface Pod {
  readonly namespace?: string;
  readonly serviceAccount: string;
  readonly uid?: string;
}

export const firstPod = '11111111-1111-4111-8111-111111111111';
export const secondPod = '22222222-2222-4222-8222-222222222222';

/** In `csr` mode, as everybody is by default; in the namespace `made` the server makes the keys. */
export const web: Pod = { serviceAccount: 'web', uid: firstPod };
export const madeWeb: Pod = { namespace: 'made', serviceAccount: 'web', uid: firstPod };

export function idOf({ namespace = 'shop', serviceAccount }: Pod): string {
  return `spiffe://example.org/ns/${namespace}/sa/${serviceAccount}`;
}

export const keyDirectory = '/etc/signet/keys';

/** A production configuration in a folder of its own: one issuer of ours, keys in a JWKS file, nothing of --dev. */
export interface WholeFolder extends AsyncDisposable {
  readonly temp: TempFolder;
  readonly configFile: string;
  readonly data: string;
  readonly jwksFile: string;
  readonly issuerKey: IssuerKey;
  /** Writes the configuration anew, with these settings over the usual ones. */
  configure(settings: Partial<ConfigInput>, file?: string): Promise<string>;
  /** `claims` go over those of the pod; `key` signs instead of the issuer's own. */
  token(pod: Pod, claims?: Readonly<Record<string, unknown>>, key?: IssuerKey): string;
  bearer(pod: Pod, claims?: Readonly<Record<string, unknown>>): Readonly<Record<string, string>>;
  admin(): GrpcCaller;
}

export async function wholeFolder(settings: Partial<ConfigInput> = {}): Promise<WholeFolder> {
  const temp = await tempFolder();
  const issuerKey = ecKey();
  const data = temp.file('data');
  const jwksFile = temp.file('jwks.json');
  await writeFile(jwksFile, JSON.stringify(keySet(issuerKey)));
  await writeFile(temp.file('kek'), randomBytes(32).toString('base64'), { mode: 0o600 });
  const usual: ConfigInput = {
    trustDomain: 'example.org',
    data: 'data',
    listen: { grpc: '127.0.0.1:0', http: '127.0.0.1:0', names: ['localhost', '127.0.0.1'] },
    identity: { issuers: [{ id: 'cluster', issuer: 'https://kubernetes.example', jwks: 'jwks.json', allow: ['**'] }] },
    ca: { keyEncryption: { keyFile: 'kek' } },
    policy: { keyModes: [{ match: '/ns/made/**', mode: 'server' }], defaults: { keyDirectories: [keyDirectory, '/tmp'] } },
    log: { level: 'error' },
  };
  const token: WholeFolder['token'] = (pod, claims = {}, key = issuerKey) =>
    signToken(key, {
      ...podClaims(Date.now(), {
        serviceAccount: pod.serviceAccount,
        namespace: pod.namespace ?? 'shop',
        podUid: pod.uid ?? firstPod,
      }),
      ...claims,
    });
  const folder: WholeFolder = {
    temp,
    configFile: temp.file('signet.yaml'),
    data,
    jwksFile,
    issuerKey,
    async configure(over, file = folder.configFile) {
      // JSON is YAML.
      await writeFile(file, JSON.stringify(mergeLayers(usual, over), null, 2));
      return file;
    },
    token,
    bearer: (pod, claims) => ({ authorization: `Bearer ${token(pod, claims)}` }),
    admin: () =>
      grpcCaller({ address: `unix:${data}/admin.sock`, file: 'signet/v1/admin_service.proto', service: 'signet.v1.AdminService' }),
    [Symbol.asyncDispose]: () => temp[Symbol.asyncDispose](),
  };
  await folder.configure(settings);
  return folder;
}

/** Clients of a server's doors, closed together. */
export interface Doors {
  readonly address: string;
  /** A connection of its own. */
  sds(channel?: ChannelCredentials): RawSdsClient;
  readonly workload: GrpcCaller;
  readonly istio: GrpcCaller;
  readonly admin: GrpcCaller;
  /** With a client's certificate. */
  workloadAs(channel: ChannelCredentials): GrpcCaller;
  /** Any bytes to any method; resolves with what came back, or how it was refused. */
  unary(path: string, bytes: Buffer, metadata?: Readonly<Record<string, string>>): Promise<Buffer | Refusal>;
  close(): void;
}

export async function openDoors(folder: WholeFolder, address: string): Promise<Doors> {
  const ca = await readFile(`${folder.data}/server-ca.pem`);
  const channel = credentials.createSsl(ca);
  // An IP address is no TLS server name.
  const named = { 'grpc.ssl_target_name_override': 'localhost' };
  const closers: (() => void)[] = [];
  const closedLater = <T extends { close(): void }>(client: T): T => {
    closers.push(() => {
      client.close();
    });
    return client;
  };
  const workloadAs = (shown: ChannelCredentials): GrpcCaller =>
    closedLater(
      grpcCaller({
        address,
        credentials: shown,
        file: 'signet/v1/certificate_service.proto',
        service: 'signet.v1.CertificateService',
        deadlineMs: 20_000,
      }),
    );
  const raw = closedLater(new Client(address, channel, { 'grpc.use_local_subchannel_pool': 1, ...named }));
  return {
    address,
    sds: (shown = channel) => closedLater(rawSdsClient(address, shown, named)),
    workload: workloadAs(channel),
    istio: closedLater(
      grpcCaller({ address, credentials: channel, file: 'istio/v1/auth/ca.proto', service: 'istio.v1.auth.IstioCertificateService' }),
    ),
    admin: closedLater(folder.admin()),
    workloadAs,
    unary(path, bytes, fields = {}) {
      const metadata = new Metadata();
      for (const [key, value] of Object.entries(fields)) metadata.set(key, value);
      const asIs = (message: Buffer): Buffer => message;
      return new Promise((resolve, reject) => {
        raw.makeUnaryRequest(path, asIs, asIs, bytes, metadata, { deadline: Date.now() + 20_000 }, (error, response) => {
          if (error) resolve({ code: error.code, details: error.details, ...infoOf(error.metadata) });
          else if (response) resolve(response);
          else reject(new Error('neither an error nor a response'));
        });
      });
    },
    close() {
      for (const close of closers) close();
    },
  };
}

/** The real server in this process, with all that its doors lead to. */
export interface WholeServer extends AsyncDisposable {
  readonly folder: WholeFolder;
  /** Of the server that runs now. */
  readonly doors: Doors;
  /** HOST:PORT of its HTTP listener. */
  readonly httpAddress: string;
  stop(): Promise<void>;
  /** On the same folder; stop first. */
  start(): Promise<void>;
  /** Takes up the configuration as it is in its file now; says whether it is in force. */
  reload(): Promise<boolean>;
}

export async function wholeServer(settings: Partial<ConfigInput> = {}): Promise<WholeServer> {
  const folder = await wholeFolder(settings);
  let running: { readonly server: RunningServer; readonly doors: Doors } | undefined;
  const whole: WholeServer = {
    folder,
    get doors() {
      if (!running) throw new Error('the server is stopped');
      return running.doors;
    },
    get httpAddress() {
      if (!running) throw new Error('the server is stopped');
      return running.server.httpAddress;
    },
    async start() {
      const server = await startServer(await loadConfig({ file: folder.configFile, env: {} }), { dev: false });
      running = { server, doors: await openDoors(folder, server.grpcAddress) };
    },
    async reload() {
      if (!running) throw new Error('the server is stopped');
      return running.server.reload(() => loadConfig({ file: folder.configFile, env: {} }));
    },
    async stop() {
      const stopping = running;
      running = undefined;
      await stopping?.server.close();
      stopping?.doors.close();
    },
    async [Symbol.asyncDispose]() {
      await whole.stop();
      await folder[Symbol.asyncDispose]();
    },
  };
  try {
    await whole.start();
  } catch (error) {
    await folder[Symbol.asyncDispose]();
    throw error;
  }
  return whole;
}

/** Binds a new key to the pod's instance. */
export async function bindKey(whole: Pick<WholeServer, 'folder' | 'doors'>, pod: Pod, directory = keyDirectory): Promise<BoundKey> {
  const key = generateKeyPair();
  const request = { csr: createCsr(key, []), key_directory: directory };
  const bound = (await whole.doors.workload.call('BindKey', request, whole.folder.bearer(pod))) as {
    readonly instance: string;
    readonly key_file: string;
  };
  return { key, instance: bound.instance, keyFile: bound.key_file };
}

export interface BoundKey {
  readonly key: KeyPair;
  readonly instance: string;
  readonly keyFile: string;
}

/** mTLS with a certificate that SignCertificate gave to the pod. */
export async function certificateChannel(whole: Pick<WholeServer, 'folder' | 'doors'>, pod: Pod): Promise<ChannelCredentials> {
  const key = generateKeyPair();
  const request = { csr: createCsr(key, []) };
  const signed = (await whole.doors.workload.call('SignCertificate', request, whole.folder.bearer(pod))) as {
    readonly chain: readonly Buffer[];
  };
  const chain = signed.chain.map((der) => pemEncode('CERTIFICATE', der)).join('');
  const ca = await readFile(`${whole.folder.data}/server-ca.pem`);
  return credentials.createSsl(ca, Buffer.from(privateKeyPem(key.privateKey)), Buffer.from(chain));
}

/** How a stream ended, with the ErrorInfo of its trailers. */
export async function endOf(stream: RawStream): Promise<Refusal> {
  const { code, details, metadata } = await stream.ended;
  return { code, details, ...infoOf(metadata) };
}
