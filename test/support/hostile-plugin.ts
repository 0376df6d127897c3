import { loadPackageDefinition, Server, ServerCredentials } from '@grpc/grpc-js';
import type { ServerUnaryCall, ServerWritableStream, ServiceDefinition, sendUnaryData } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { join } from 'node:path';
import { protoRoot } from '../../src/base/proto-files.ts';
import type { Clock } from '../../src/base/clock.ts';
import { parseSpiffeId } from '../../src/spiffe/id.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { completeCertificate, encodeToBeSigned } from '../../src/x509/certificate-builder.ts';
import {
  authorityKeyIdExtension,
  basicConstraintsExtension,
  extendedKeyUsageExtension,
  keyUsageExtension,
  subjectAltNameExtension,
} from '../../src/x509/extensions.ts';
import type { KeyUsage } from '../../src/x509/extensions.ts';
import { encodeUri } from '../../src/x509/general-names.ts';
import type { IssuingCa } from '../../src/x509/issuing-ca.ts';
import { sha256Hex } from '../../src/x509/keys.ts';
import { encodeSignatureAlgorithm } from '../../src/x509/signature.ts';
import { fakeAuthority } from './fake-authority.ts';
import type { FakeAuthority } from './fake-authority.ts';
import { tempFolder } from './temp.ts';

/** As it comes over the wire: times in seconds. */
export interface SignFields {
  readonly csr: Buffer;
  readonly spiffeId: string;
  readonly publicKey: Buffer;
  readonly notBefore: number;
  readonly notAfter: number;
}

/** What it answers to Sign: chains, one for each message; usually that is one. */
export type Answer = readonly (readonly Buffer[])[];

/** A plugin with a real CA behind it that answers what a test wants, also what the protocol forbids. */
export interface HostilePlugin extends AsyncDisposable {
  readonly socket: string;
  /** HOST:PORT, when it listens with TLS. */
  readonly address: string;
  /** What it is known by and whom it lets in, from the next start on. */
  tls: PluginTls | undefined;
  /** Its CA; what it signs here is what an honest plugin would. */
  ca: FakeAuthority;
  readonly asked: SignFields[];
  honest(request: SignFields): Promise<readonly Buffer[]>;
  /** Undefined: an honest answer. It may never settle, and may throw a gRPC status. */
  answer: ((request: SignFields) => Promise<Answer> | Answer) | undefined;
  /** What Handshake, Health and WatchTrust say, over what an honest plugin would. */
  handshake: Readonly<Record<string, unknown>>;
  health: Readonly<Record<string, unknown>>;
  trust: Readonly<Record<string, unknown>>;
  /** Sends what `trust` is now to all who watch. */
  announce(): void;
  /** Ends the streams of who watches, with OK: what comes before the end of a program that ends well. */
  hangUp(): void;
  /** Every connection is cut, as by a crash. */
  stop(): void;
  /** At the same place. */
  start(): Promise<void>;
}

/** PEM. */
export interface PluginTls {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

const definition = ((): ServiceDefinition => {
  const options = { includeDirs: [protoRoot], longs: Number, defaults: true };
  const root = loadPackageDefinition(loadSync(join(protoRoot, 'signet/plugin/v1/plugin.proto'), options));
  const { signet } = root as unknown as { signet: { plugin: { v1: { Authority: { service: ServiceDefinition } } } } };
  const { service } = signet.plugin.v1.Authority;
  const { Sign: sign } = service;
  if (!sign) throw new Error('no Sign');
  // Over the wire a method with one answer and one with several look alike: so it can answer twice.
  return { ...service, Sign: { ...sign, responseStream: true } };
})();

/** On a unix socket, or on loopback with TLS. */
export async function hostilePlugin(clock: Clock, tls?: PluginTls): Promise<HostilePlugin> {
  const folder = await tempFolder();
  const socket = folder.file('plugin.sock');
  let port = 0;
  const watchers = new Set<ServerWritableStream<unknown, unknown>>();

  const trust = (): object => ({ anchors: [plugin.ca.root], issuersEnd: Math.floor(plugin.ca.issuersEnd() / 1000), ...plugin.trust });
  const unary =
    (answer: () => object) =>
    (_call: ServerUnaryCall<unknown, unknown>, done: sendUnaryData<unknown>): void => {
      done(null, answer());
    };

  async function listen(): Promise<Server> {
    const next = new Server();
    next.addService(definition, {
      Handshake: unary(() => ({
        revision: 1,
        pluginName: 'hostile',
        pluginVersion: '1',
        capabilities: { exactLife: true, signIntermediate: false },
        ...plugin.handshake,
      })),
      Health: unary(() => ({ canSign: true, detail: 'fine', ...plugin.health })),
      SignIntermediate: unary(() => ({ chain: [plugin.ca.issuing.certificate] })),
      Sign: (call: ServerWritableStream<SignFields, unknown>) => {
        plugin.asked.push(call.request);
        const answer = async (): Promise<Answer> => (plugin.answer ? plugin.answer(call.request) : [await plugin.honest(call.request)]);
        answer().then(
          (messages) => {
            for (const chain of messages) call.write({ chain });
            call.end();
          },
          (error: unknown) => call.emit('error', error),
        );
      },
      WatchTrust: (call: ServerWritableStream<unknown, unknown>) => {
        call.write(trust());
        watchers.add(call);
        call.on('cancelled', () => watchers.delete(call));
      },
    });
    const { tls: own } = plugin;
    const credentials = own
      ? ServerCredentials.createSsl(
          Buffer.from(own.ca),
          [{ cert_chain: Buffer.from(own.certificate), private_key: Buffer.from(own.key) }],
          true,
        )
      : ServerCredentials.createInsecure();
    port = await new Promise<number>((resolve, reject) => {
      next.bindAsync(own ? `127.0.0.1:${String(port)}` : `unix:${socket}`, credentials, (error, bound) => {
        if (error) reject(error);
        else resolve(bound);
      });
    });
    return next;
  }

  const plugin: HostilePlugin = {
    socket,
    get address() {
      return `127.0.0.1:${String(port)}`;
    },
    tls,
    ca: await fakeAuthority({ clock, name: 'plugin' }),
    asked: [],
    answer: undefined,
    handshake: {},
    health: {},
    trust: {},
    async honest({ spiffeId, publicKey, notBefore, notAfter, csr }) {
      const { certificates } = await plugin.ca.sign(
        {
          spiffeId: parseSpiffeId(spiffeId),
          spki: publicKey,
          spkiSha256: sha256Hex(publicKey),
          csr: () => csr,
          notBefore: notBefore * 1000,
          notAfter: Math.min(notAfter * 1000, plugin.ca.issuersEnd()),
        },
        new AbortController().signal,
      );
      return certificates;
    },
    announce() {
      for (const call of watchers) call.write(trust());
    },
    hangUp() {
      for (const call of watchers) call.end();
    },
    stop() {
      server.forceShutdown();
      watchers.clear();
    },
    async start() {
      server = await listen();
    },
    async [Symbol.asyncDispose]() {
      server.forceShutdown();
      await folder[Symbol.asyncDispose]();
    },
  };
  let server = await listen();
  return plugin;
}

/** What a forged leaf has that an honest one has not. */
export interface LeafForgery {
  readonly spki?: Buffer;
  /** GeneralNames, instead of the one URI. */
  readonly names?: readonly Buffer[];
  readonly notBefore?: number;
  readonly notAfter?: number;
  readonly isCa?: boolean;
  readonly keyUsage?: readonly KeyUsage[];
  readonly extendedKeyUsage?: readonly ('serverAuth' | 'clientAuth')[];
  readonly more?: readonly Buffer[];
  /** Instead of the issuing CA's own signature over what is to be signed, and of what algorithm. */
  readonly signature?: { readonly algorithm: Buffer; readonly sign: (tbs: Buffer) => Buffer };
}

/** A leaf as asked for, but for the forgery, truly signed by this CA. */
export async function forgeLeaf(issuing: IssuingCa, asked: SignFields, forgery: LeafForgery = {}): Promise<Buffer> {
  const issuer = parseCertificate(issuing.certificate);
  const { signer } = issuing;
  const algorithm = forgery.signature?.algorithm ?? encodeSignatureAlgorithm(signer.algorithm);
  const tbs = encodeToBeSigned({
    signatureAlgorithm: algorithm,
    issuer: issuer.subject,
    subject: Buffer.of(0x30, 0),
    notBefore: forgery.notBefore ?? asked.notBefore * 1000,
    notAfter: forgery.notAfter ?? asked.notAfter * 1000,
    spki: forgery.spki ?? asked.publicKey,
    extensions: [
      keyUsageExtension(...(forgery.keyUsage ?? ['digitalSignature'])),
      extendedKeyUsageExtension(...(forgery.extendedKeyUsage ?? ['serverAuth', 'clientAuth'])),
      basicConstraintsExtension(forgery.isCa === true ? {} : false),
      authorityKeyIdExtension(Buffer.from(issuer.subjectKeyId ?? '', 'hex')),
      subjectAltNameExtension(true, forgery.names ?? [encodeUri(asked.spiffeId)]),
      ...(forgery.more ?? []),
    ],
  });
  return completeCertificate(tbs, algorithm, forgery.signature?.sign(tbs) ?? (await signer.sign(tbs, AbortSignal.timeout(10_000))));
}
