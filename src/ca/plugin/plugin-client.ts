import type { ChannelCredentials, ChannelOptions, ServiceDefinition } from '@grpc/grpc-js';
import { Client, connectivityState } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { join } from 'node:path';
import type { z } from 'zod';
import { protoRoot } from '../../base/proto-files.ts';
import { misbehaved, pluginError } from './plugin-error.ts';
import { chainResponse, handshakeResponse, healthResponse, largestMessage, trustMessage } from './plugin-messages.ts';
import type { TrustMessage } from './plugin-messages.ts';

/** How to reach a plugin that runs. */
export interface PluginTarget {
  /** As gRPC writes it: `unix:/path` or `host:port`. */
  readonly address: string;
  readonly credentials: ChannelCredentials;
  readonly options: ChannelOptions;
}

type Chain = readonly [Buffer, ...Buffer[]];

/** The calls of signet.plugin.v1, each one try. Every answer is checked for form and size. Errors: `pluginError`. */
export interface PluginClient {
  handshake(request: HandshakeFields, signal: AbortSignal): Promise<z.output<typeof handshakeResponse>>;
  sign(request: SignFields, signal: AbortSignal): Promise<Chain>;
  signIntermediate(request: SignIntermediateFields, signal: AbortSignal): Promise<Chain>;
  /** Ends when the plugin ends it. */
  watchTrust(signal: AbortSignal): AsyncGenerator<TrustMessage>;
  health(signal: AbortSignal): Promise<z.output<typeof healthResponse>>;
  /** Aborts when the connection that stands now doesn't any more; at once, if there is none. */
  lost(): AbortSignal;
  /** Calls that are on their way are let finish. */
  close(): void;
}

interface HandshakeFields {
  readonly revision: number;
  readonly trustDomain: string;
  readonly signetVersion: string;
}
/** Times in seconds. */
interface SignFields {
  readonly csr: Buffer;
  readonly spiffeId: string;
  readonly publicKey: Buffer;
  readonly notBefore: number;
  readonly notAfter: number;
}
interface SignIntermediateFields {
  readonly csr: Buffer;
  readonly publicKey: Buffer;
  readonly commonName: string;
  readonly notAfter: number;
}

const serviceName = 'signet.plugin.v1.Authority';
const channelOptions: ChannelOptions = {
  'grpc.max_receive_message_length': largestMessage,
  // One try is one try: whether there is another is decided elsewhere.
  'grpc.enable_retries': 0,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2000,
  // Two connections, one with the old certificate and one with the new, are two.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_http_proxy': 0,
};

let service: ServiceDefinition | undefined;

function methods(): ServiceDefinition {
  if (service) return service;
  const file = join(protoRoot, 'signet/plugin/v1/plugin.proto');
  const loaded = loadSync(file, { includeDirs: [protoRoot], longs: Number, enums: String, defaults: true, keepCase: false })[serviceName];
  if (loaded === undefined || 'format' in loaded) throw new TypeError(`no service ${serviceName}`);
  service = loaded;
  return service;
}

/** `plugin` is its name in the configuration, for errors. Connects when it is first called. */
export function openPluginClient(target: PluginTarget, plugin: string): PluginClient {
  const client = new Client(target.address, target.credentials, { ...channelOptions, ...target.options });
  const method = (name: string) => {
    const found = methods()[name];
    if (!found) throw new TypeError(`${serviceName} has no method ${name}`);
    return found;
  };

  function checked<T>(schema: z.ZodType<T>, message: unknown): T {
    const parsed = schema.safeParse(message);
    if (parsed.success) return parsed.data;
    throw misbehaved(
      plugin,
      parsed.error.issues
        .map(({ path, message: what }) => `${path.join('.')}: ${what}`)
        .join('; ')
        .slice(0, 500),
    );
  }

  /**
   * A call with one answer, as one with a stream of them: over the wire they are alike, and grpc-js waits for ever on who
   * answers twice where one answer was declared.
   */
  async function call<T>(name: string, schema: z.ZodType<T>, request: object, signal: AbortSignal): Promise<T> {
    const answers = stream(name, request, signal);
    const first = await answers.next();
    if (first.done === true) throw misbehaved(plugin, 'No message received');
    const second = await answers.next();
    if (second.done !== true) {
      void answers.return(undefined);
      throw misbehaved(plugin, 'Too many responses received');
    }
    return checked(schema, first.value);
  }

  /** Ends when the plugin ends it, or throws what gRPC says. */
  async function* stream(name: string, request: object, signal: AbortSignal): AsyncGenerator<unknown, undefined> {
    const { path, requestSerialize, responseDeserialize } = method(name);
    signal.throwIfAborted();
    const running = client.makeServerStreamRequest(path, requestSerialize, (bytes: Buffer): unknown => responseDeserialize(bytes), request);
    const cancel = (): void => {
      running.cancel();
    };
    signal.addEventListener('abort', cancel, { once: true });
    try {
      for await (const message of running) yield message as unknown;
    } finally {
      signal.removeEventListener('abort', cancel);
      // What comes after the end is of no interest, and must not be thrown at the process.
      running.on('error', () => undefined);
      running.cancel();
    }
    return undefined;
  }

  const tried = <T>(work: Promise<T>, signal: AbortSignal): Promise<T> =>
    work.catch((error: unknown) => {
      throw pluginError(error, plugin, signal);
    });

  return {
    handshake: (request, signal) => tried(call('Handshake', handshakeResponse, request, signal), signal),
    sign: (request, signal) =>
      tried(
        call('Sign', chainResponse, request, signal).then(({ chain }) => chain),
        signal,
      ),
    signIntermediate: (request, signal) =>
      tried(
        call('SignIntermediate', chainResponse, request, signal).then(({ chain }) => chain),
        signal,
      ),
    health: (signal) => tried(call('Health', healthResponse, {}, signal), signal),
    async *watchTrust(signal) {
      try {
        for await (const message of stream('WatchTrust', {}, signal)) yield checked(trustMessage, message);
      } catch (error) {
        throw pluginError(error, plugin, signal);
      }
    },
    lost() {
      const lost = new AbortController();
      const channel = client.getChannel();
      if (channel.getConnectivityState(false) !== connectivityState.READY) lost.abort();
      else
        channel.watchConnectivityState(connectivityState.READY, Number.POSITIVE_INFINITY, () => {
          lost.abort();
        });
      return lost.signal;
    },
    close: () => {
      client.close();
    },
  };
}
