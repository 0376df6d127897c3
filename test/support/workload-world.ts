import { mkdir } from 'node:fs/promises';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { exportJWK, generateKeyPair as generateJwtKey, SignJWT } from 'jose';
import type { CryptoKey, JWK, JWTPayload } from 'jose';
import { systemClock } from '../../src/base/clock.ts';
import { SignetError } from '../../src/base/errors.ts';
import { parseSpiffeId } from '../../src/spiffe/id.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { createWorkloadApi } from '../../src/workload-api/service.ts';
import type { WorkloadApiLimits, WorkloadApiService } from '../../src/workload-api/service.ts';
import type { WorkloadSource, X509State, X509Svid } from '../../src/workload-api/workload-source.ts';
import { fakeAuthority } from './fake-authority.ts';
import type { FakeAuthority } from './fake-authority.ts';
import { recordingLog } from './recording-log.ts';
import type { RecordingLog } from './recording-log.ts';
import { tempFolder } from './temp.ts';

/** A trust domain in memory: a CA with real certificates, and the keys of its JWT-SVIDs. */
export interface TestTrustDomain {
  /** `spiffe://td`. */
  readonly name: string;
  readonly authority: FakeAuthority;
  /** A chain and a key, new each time. */
  svid(path: string, options?: { readonly hint?: string; readonly lifeMs?: number }): Promise<X509Svid>;
  /** The JWK set, as published. */
  readonly jwks: string;
  token(claims: JWTPayload, header?: { readonly alg?: string; readonly kid?: string; readonly typ?: string }): Promise<string>;
  readonly jwtKey: { readonly keyId: string; readonly privateKey: CryptoKey; readonly jwk: JWK };
}

export async function testTrustDomain(domain: string): Promise<TestTrustDomain> {
  const name = `spiffe://${domain}`;
  const authority = await fakeAuthority({ clock: systemClock, name: domain });
  const { privateKey, publicKey } = await generateJwtKey('ES256', { extractable: true });
  const keyId = `${domain}-1`;
  const jwk: JWK = { ...(await exportJWK(publicKey)), kid: keyId, use: 'jwt-svid' };
  return {
    name,
    authority,
    jwks: JSON.stringify({ keys: [jwk] }),
    jwtKey: { keyId, privateKey, jwk },
    async svid(path, { hint = '', lifeMs = 3_600_000 } = {}) {
      const key = generateKeyPair();
      const spiffeId = parseSpiffeId(`${name}${path}`);
      const now = Math.floor(Date.now() / 1000) * 1000;
      const life = { notBefore: now - 60_000, notAfter: now + lifeMs };
      const csr = (): Buffer => {
        throw new Error('this CA needs none');
      };
      const { certificates } = await authority.sign(
        { spiffeId, spki: key.spki, spkiSha256: key.spkiSha256, csr, ...life },
        AbortSignal.timeout(5000),
      );
      return { spiffeId, chain: certificates, keyPkcs8: key.privateKey.export({ type: 'pkcs8', format: 'der' }), hint };
    },
    token: (claims, header = {}) =>
      new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: keyId, typ: 'JWT', ...header }).sign(privateKey),
  };
}

/** A source in memory whose state a test sets. */
export interface MemoryWorkloadSource extends WorkloadSource {
  setX509(state: X509State | 'pending' | 'denied'): void;
  setJwtBundles(bundles: ReadonlyMap<string, string> | 'pending' | 'denied'): void;
  fetch: WorkloadSource['fetchJwtSvids'];
  readonly listeners: number;
}

export function memoryWorkloadSource(): MemoryWorkloadSource {
  const listeners = new Set<() => void>();
  let x509: X509State | 'pending' | 'denied' = 'pending';
  let jwt: ReadonlyMap<string, string> | 'pending' | 'denied' = 'pending';
  const tell = (): void => {
    for (const listener of [...listeners]) listener();
  };
  const source: MemoryWorkloadSource = {
    x509: () => x509,
    jwtBundles: () => jwt,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    fetchJwtSvids: (request, signal) => source.fetch(request, signal),
    fetch: () => Promise.reject(new SignetError('AUTHORITY_UNAVAILABLE', 'no signer yet')),
    setX509(state) {
      x509 = state;
      tell();
    },
    setJwtBundles(bundles) {
      jwt = bundles;
      tell();
    },
    get listeners() {
      return listeners.size;
    },
  };
  return source;
}

/** A Workload API on a unix socket, and what changes behind it. */
export interface WorkloadWorld extends AsyncDisposable {
  /** Path of the socket. */
  readonly socket: string;
  /** The same as SPIFFE_ENDPOINT_SOCKET has it. */
  readonly endpoint: string;
  readonly trustDomain: TestTrustDomain;
  /** Issues every identity anew, with new keys, and publishes them. Returns what is published then. */
  rotate(): Promise<X509State>;
  readonly source: MemoryWorkloadSource;
  /** Of the server that runs now. */
  readonly service: WorkloadApiService;
  readonly log: RecordingLog;
  /** Ends the server as an agent does that stops. */
  stop(): Promise<void>;
  /** Another server on the same path and source, as an agent that comes back. */
  restart(): Promise<void>;
}

export interface WorkloadOptions {
  readonly trustDomain?: TestTrustDomain;
  /** Path to hint; the first is the default identity. */
  readonly identities?: Readonly<Record<string, string>>;
  readonly federated?: readonly TestTrustDomain[];
  readonly limits?: Partial<WorkloadApiLimits>;
  readonly lifeMs?: number;
  /** Nothing is published yet. */
  readonly empty?: boolean;
}

const jwtLifeMs = 300_000;

export async function startWorkloadApi(options: WorkloadOptions = {}): Promise<WorkloadWorld> {
  const folder = await tempFolder();
  const trustDomain = options.trustDomain ?? (await testTrustDomain('test.example'));
  const identities = Object.entries(options.identities ?? { '/ns/shop/sa/web': '' });
  const all = [trustDomain, ...(options.federated ?? [])];
  const source = memoryWorkloadSource();
  const log = recordingLog();
  await mkdir(folder.file('run'), { mode: 0o700 });
  const socket = folder.file('run/workload.sock');
  const sign: WorkloadSource['fetchJwtSvids'] = async ({ audiences, spiffeId }) => {
    const chosen = identities.filter(([path]) => spiffeId === undefined || `${trustDomain.name}${path}` === spiffeId);
    if (chosen.length === 0) throw new SignetError('PERMISSION_DENIED', 'not an identity of this workload');
    const expiresAt = Math.floor((Date.now() + jwtLifeMs) / 1000) * 1000;
    return Promise.all(
      chosen.map(async ([path, hint]) => {
        const sub = `${trustDomain.name}${path}`;
        const claims = { sub, aud: [...audiences], iat: Math.floor(Date.now() / 1000), exp: expiresAt / 1000 };
        return { spiffeId: sub, token: await trustDomain.token(claims), hint, expiresAt };
      }),
    );
  };

  async function rotate(): Promise<X509State> {
    const [first, ...rest] = await Promise.all(
      identities.map(([path, hint]) =>
        trustDomain.svid(path, { hint, ...(options.lifeMs === undefined ? {} : { lifeMs: options.lifeMs }) }),
      ),
    );
    if (!first) throw new Error('a workload without an identity');
    const bundles = new Map(all.map(({ name, authority }) => [name, [authority.root]]));
    const state: X509State = { svids: [first, ...rest], bundles, crls: [] };
    source.setX509(state);
    return state;
  }

  if (options.empty !== true) {
    await rotate();
    source.fetch = sign;
    source.setJwtBundles(new Map(all.map(({ name, jwks }) => [name, jwks])));
  }
  const serve = async (): Promise<{ readonly service: WorkloadApiService; readonly server: Server }> => {
    const service = createWorkloadApi({ source, clock: systemClock, log, limits: options.limits ?? {} });
    return { service, server: await listen(service, socket) };
  };
  let running = await serve();
  return {
    socket,
    endpoint: `unix://${socket}`,
    trustDomain,
    rotate,
    source,
    log,
    get service() {
      return running.service;
    },
    async stop() {
      // First: a session that is destroyed cancels its streams, and go-spiffe takes CANCELLED for the last word.
      await running.service.drain(AbortSignal.timeout(5000));
      running.server.forceShutdown();
    },
    async restart() {
      running = await serve();
    },
    async [Symbol.asyncDispose]() {
      running.server.forceShutdown();
      await folder[Symbol.asyncDispose]();
    },
  };
}

async function listen(service: WorkloadApiService, socket: string): Promise<Server> {
  const server = new Server();
  service.register(server);
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix://${socket}`, ServerCredentials.createInsecure(), (error) => {
      if (error) reject(error);
      else resolve();
    });
  });
  return server;
}
