import { spawn, type ChildProcess } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Agent, request } from 'undici';
import { parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { eventually, Hopeless } from '../eventually.ts';
import { foreignCa, foreignClient, foreignLeaf } from '../openssl.ts';
import type { PemPair } from '../openssl.ts';
import { freePort } from '../ports.ts';
import { endChild, keepTrack } from '../process.ts';
import { tempFolder } from '../temp.ts';
import { kubeBinaries } from './kube/binaries.ts';

/** What the API server answered to the test itself, who may do everything. */
export interface KubeAnswer {
  readonly status: number;
  readonly body: unknown;
}

export interface KubeToken {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Empty: for the API server itself. */
  readonly audiences?: readonly string[];
  /** The pod that the token is bound to; it must exist. */
  readonly pod?: { readonly name: string; readonly uid: string };
  /** Seconds; the API server gives 600 at least. */
  readonly seconds?: number;
}

export type KubeCredential =
  | { readonly token: string }
  | { readonly tokenFile: string }
  /** A client certificate for this user, who is in the group. */
  | { readonly user: string; readonly group: string };

/** A real kube-apiserver on a real etcd, with RBAC, alone on ports of its own: no scheduler, kubelet or controllers. */
export interface KubeApiServer extends AsyncDisposable {
  /** https://127.0.0.1:PORT, the same for as long as it lives. */
  readonly address: string;
  /** PEM of the CA that its certificate is from. */
  readonly caFile: string;
  /** The `iss` of its service-account tokens. */
  readonly issuer: string;
  /** Of system:masters. */
  readonly adminToken: string;
  /** Writes a kubeconfig of its own for whoever bears this credential, and gives its path. */
  kubeconfig(credential: KubeCredential): Promise<string>;
  /** As administrator, by a client that shares no line with the product's. */
  call(method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: unknown, contentType?: string): Promise<KubeAnswer>;
  /** Server-side apply of every document; what is refused is an error. */
  apply(yaml: string): Promise<void>;
  /** TokenRequest, as the kubelet does it for a projected volume. */
  token(wish: KubeToken): Promise<string>;
  /** Away, as in a crash; what it had stored stays. */
  stop(): Promise<void>;
  /** Back on the same data and port. */
  start(): Promise<void>;
  /** The end of the API server's log, for when a test fails. */
  log(): Promise<string>;
}

const startMs = 90_000;
const callMs = 20_000;
const dayMs = 86_400_000;

export interface KubeServerOptions {
  /** The `iss` of its tokens. Default: its address, as no two have. */
  readonly issuer?: string;
  /** It obeys FlowSchemas, and so can be made to turn somebody away. */
  readonly fairness?: boolean;
}

export async function startKubeApiServer(options: KubeServerOptions = {}): Promise<KubeApiServer> {
  const binaries = await kubeBinaries();
  const folder = await tempFolder();
  const [port, etcdPort, peerPort] = [await freePort(), await freePort(), await freePort()];
  const address = `https://127.0.0.1:${port}`;
  const issuer = options.issuer ?? address;
  const adminToken = randomBytes(24).toString('hex');
  const ca = await foreignCa('Kubernetes');
  const files = await writeFiles(folder.path, ca, adminToken);
  const agent = new Agent({ connect: { ca: await readFile(files.ca) } });
  let etcd: ChildProcess | undefined;
  let apiServer: ChildProcess | undefined;
  let kubeconfigs = 0;

  async function run(name: string, program: string, args: readonly string[]): Promise<ChildProcess> {
    await using log = await open(folder.file(`${name}.log`), 'a');
    const child = spawn(program, args, { stdio: ['ignore', log.fd, log.fd] });
    keepTrack(child);
    return child;
  }

  async function start(): Promise<void> {
    etcd = await run('etcd', binaries.etcd, etcdFlags(folder.file('etcd'), etcdPort, peerPort));
    apiServer = await run(
      'apiserver',
      binaries.apiServer,
      apiServerFlags({ port, etcdPort, issuer, files, fairness: options.fairness ?? false }),
    );
    const child = apiServer;
    await eventually(
      'the API server is ready',
      async () => {
        if (child.exitCode !== null) throw new Hopeless(`kube-apiserver ended: ${await log()}`);
        return (await call('GET', '/readyz')).status === 200 ? true : undefined;
      },
      startMs,
      100,
    );
  }

  async function stop(): Promise<void> {
    // It holds no state: it may be killed. Its etcd doesn't sync to disk, and has to be let end.
    if (apiServer) await endChild(apiServer, 'SIGKILL');
    if (etcd) await endChild(etcd);
    [apiServer, etcd] = [undefined, undefined];
  }

  async function log(): Promise<string> {
    return (await readFile(folder.file('apiserver.log'), 'utf8').catch(() => '')).slice(-3000);
  }

  async function call(
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    body?: unknown,
    contentType = 'application/json',
  ): Promise<KubeAnswer> {
    const answer = await request(`${address}${path}`, {
      dispatcher: agent,
      method,
      headers: { authorization: `Bearer ${adminToken}`, ...(body === undefined ? {} : { 'content-type': contentType }) },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      signal: AbortSignal.timeout(callMs),
    });
    const text = await answer.body.text();
    return { status: answer.statusCode, body: text.startsWith('{') ? (JSON.parse(text) as unknown) : text };
  }

  async function applyOne(object: unknown): Promise<void> {
    const { apiVersion, kind, metadata } = applied.parse(object);
    const path = `${await resourcePath(call, apiVersion, kind, metadata.namespace)}/${metadata.name}?fieldManager=test&force=true`;
    const { status, body } = await call('PATCH', path, object, 'application/apply-patch+yaml');
    if (status !== 200 && status !== 201) throw new Error(`apply of ${kind} ${metadata.name}: ${status} ${JSON.stringify(body)}`);
  }

  await start();
  return {
    address,
    caFile: files.ca,
    issuer,
    adminToken,
    async kubeconfig(credential) {
      const path = folder.file(`kubeconfig-${kubeconfigs++}`);
      const config = {
        apiVersion: 'v1',
        kind: 'Config',
        clusters: [{ name: 'c', cluster: { server: address, 'certificate-authority': files.ca } }],
        users: [{ name: 'u', user: await userOf(ca, credential) }],
        contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
        'current-context': 'x',
      };
      await writeFile(path, JSON.stringify(config), { mode: 0o600 });
      return path;
    },
    call,
    async apply(yaml) {
      for (const document of parseAllDocuments(yaml)) {
        const object: unknown = document.toJS();
        if (object !== null) await applyOne(object);
      }
    },
    async token({ namespace, serviceAccount, audiences = [], pod, seconds = 3600 }) {
      const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}/token`;
      const boundObjectRef = pod && { apiVersion: 'v1', kind: 'Pod', ...pod };
      const spec = { audiences, expirationSeconds: seconds, ...(boundObjectRef ? { boundObjectRef } : {}) };
      const { body } = await call('POST', path, { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec });
      return z.object({ status: z.object({ token: z.string() }) }).parse(body).status.token;
    },
    stop,
    start,
    log,
    async [Symbol.asyncDispose]() {
      await stop();
      await agent.destroy();
      await folder[Symbol.asyncDispose]();
    },
  };
}

async function userOf(ca: PemPair, credential: KubeCredential): Promise<Readonly<Record<string, string>>> {
  if (!('user' in credential)) return { ...credential };
  const { certificate, key } = await foreignClient(ca, { subject: `/O=${credential.group}/CN=${credential.user}` });
  const base64 = (pem: string): string => Buffer.from(pem).toString('base64');
  return { 'client-certificate-data': base64(certificate), 'client-key-data': base64(key) };
}

const applied = z.object({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.object({ name: z.string(), namespace: z.string().optional() }),
});
const resources = z.object({ resources: z.array(z.object({ name: z.string(), kind: z.string(), namespaced: z.boolean() })) });

/** Asks the API server itself where objects of this kind live, so that custom ones do too. */
async function resourcePath(call: KubeApiServer['call'], apiVersion: string, kind: string, namespace: string | undefined): Promise<string> {
  const group = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const { resources: known } = resources.parse((await call('GET', group)).body);
  const resource = known.find((entry) => entry.kind === kind && !entry.name.includes('/'));
  if (!resource) throw new Error(`${apiVersion} has no ${kind}`);
  return resource.namespaced ? `${group}/namespaces/${namespace ?? 'default'}/${resource.name}` : `${group}/${resource.name}`;
}

interface ServerFiles {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
  readonly accountKey: string;
  readonly accountPublicKey: string;
  readonly tokens: string;
}

async function writeFiles(folder: string, ca: PemPair, adminToken: string): Promise<ServerFiles> {
  const serving = await foreignLeaf(ca, { uri: 'spiffe://kubernetes/api', ip: '127.0.0.1', notAfter: Date.now() + dayMs });
  const account = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  const contents = {
    ca: ca.certificate,
    certificate: serving.certificate,
    key: serving.key,
    accountKey: account.privateKey,
    accountPublicKey: account.publicKey,
    tokens: `${adminToken},admin,admin-uid,"system:masters"\n`,
  };
  for (const [name, content] of Object.entries(contents)) await writeFile(join(folder, name), content, { mode: 0o600 });
  const at = (name: keyof typeof contents): string => join(folder, name);
  return {
    ca: at('ca'),
    certificate: at('certificate'),
    key: at('key'),
    accountKey: at('accountKey'),
    accountPublicKey: at('accountPublicKey'),
    tokens: at('tokens'),
  };
}

function etcdFlags(data: string, port: number, peerPort: number): string[] {
  const [client, peer] = [`http://127.0.0.1:${port}`, `http://127.0.0.1:${peerPort}`];
  return [
    `--data-dir=${data}`,
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=default=${peer}`,
    '--unsafe-no-fsync', // Nothing here has to survive this machine.
  ];
}

interface ServerFlags {
  readonly port: number;
  readonly etcdPort: number;
  readonly issuer: string;
  readonly files: ServerFiles;
  readonly fairness: boolean;
}

function apiServerFlags({ port, etcdPort, issuer, files, fairness }: ServerFlags): string[] {
  return [
    `--etcd-servers=http://127.0.0.1:${etcdPort}`,
    '--bind-address=127.0.0.1',
    '--advertise-address=127.0.0.1',
    `--secure-port=${port}`,
    `--tls-cert-file=${files.certificate}`,
    `--tls-private-key-file=${files.key}`,
    `--client-ca-file=${files.ca}`,
    `--token-auth-file=${files.tokens}`,
    `--service-account-issuer=${issuer}`,
    `--service-account-signing-key-file=${files.accountKey}`,
    `--service-account-key-file=${files.accountPublicKey}`,
    `--service-account-jwks-uri=https://127.0.0.1:${port}/openid/v1/jwks`,
    `--api-audiences=${issuer}`,
    '--authorization-mode=RBAC',
    '--service-cluster-ip-range=10.96.0.0/24',
    '--endpoint-reconciler-type=none',
    '--profiling=false',
    `--enable-priority-and-fairness=${String(fairness)}`,
    '--runtime-config=certificates.k8s.io/v1beta1=true',
    '--feature-gates=ClusterTrustBundle=true',
  ];
}
