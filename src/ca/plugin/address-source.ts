import { credentials } from '@grpc/grpc-js';
import { stat } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import type { BackoffLimits } from '../../base/backoff.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { readSecret } from '../../base/secret-file.ts';
import { sha256Hex } from '../../x509/keys.ts';
import { renewed } from './plugin-source.ts';
import type { PluginEndpoint, PluginSource } from './plugin-source.ts';

/** A connection that is refused costs next to nothing, and a renewal may have no more than a second left. */
const retry: BackoffLimits = { baseMs: 100, maxMs: 500 };

/** A plugin that runs by itself on this host: the folder of its socket is the door. */
export function socketSource(path: string): PluginSource {
  return {
    retry,
    acquire: () =>
      Promise.resolve({
        address: `unix:${path}`,
        credentials: credentials.createInsecure(),
        options: {},
        gone: new AbortController().signal,
        release: () => Promise.resolve(),
      }),
  };
}

export interface TlsFiles {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
  readonly serverName?: string | undefined;
}

export interface AddressSourceOptions {
  readonly name: string;
  /** HOST:PORT. */
  readonly address: string;
  readonly tls: TlsFiles;
  readonly log: Log;
  /** How often the files are looked at, in ms. */
  readonly lookEveryMs?: number;
}

/** One over TCP, by mutual TLS with files, which may be replaced while it runs. */
export function addressSource(options: AddressSourceOptions): PluginSource {
  const { name, address, tls, log } = options;

  async function acquire(): Promise<PluginEndpoint> {
    const files = await readTls(name, tls);
    const gone = new AbortController();
    let stamp = await stampOf(tls);
    const timer = setInterval(() => void look(), options.lookEveryMs ?? 5000);
    timer.unref();

    async function look(): Promise<void> {
      try {
        const now = await stampOf(tls);
        if (now === stamp) return;
        const next = await readTls(name, tls);
        stamp = now;
        if (next.hash !== files.hash) gone.abort(renewed);
      } catch (error) {
        // Half of a new pair may be there: the old one is in use until both are.
        log.warn({ authority: name, err: error }, "the plugin's TLS files can't be used; the last ones stay in use");
      }
    }

    return {
      address,
      credentials: credentials.createFromSecureContext(files.context),
      options: tls.serverName === undefined ? {} : { 'grpc.ssl_target_name_override': tls.serverName },
      gone: gone.signal,
      release() {
        clearInterval(timer);
        return Promise.resolve();
      },
    };
  }

  return { retry, acquire };
}

/** Changes when one of the files does. */
async function stampOf(tls: TlsFiles): Promise<string> {
  const all = await Promise.all([tls.ca, tls.certificate, tls.key].map((file) => stat(file)));
  return all.map(({ ino, size, mtimeMs }) => `${String(ino)}.${String(size)}.${String(mtimeMs)}`).join(' ');
}

async function readTls(name: string, tls: TlsFiles) {
  const setting = `ca.backends.${name}.tls`;
  try {
    const ca = await readSecret(`${setting}.ca`, tls.ca);
    const cert = await readSecret(`${setting}.certificate`, tls.certificate);
    const key = await readSecret(`${setting}.key`, tls.key);
    return { context: createSecureContext({ ca, cert, key, minVersion: 'TLSv1.2' }), hash: sha256Hex(Buffer.from(ca + cert + key)) };
  } catch (error) {
    const what = error instanceof SignetError ? error.message : `${setting}: certificate and key don't go together, or are not PEM`;
    throw new SignetError('AUTHORITY_MISCONFIGURED', what, { cause: error });
  }
}
