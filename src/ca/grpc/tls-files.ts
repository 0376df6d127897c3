import type { Random } from '../../base/clock.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { readSecret } from '../../base/secret-file.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import { importPrivateKey, spkiOf } from '../../x509/keys.ts';
import { certificatesFromPem } from '../../x509/pem.ts';
import { createPolledValue } from '../polled-value.ts';
import type { PolledValue } from '../polled-value.ts';

/** What a TLS connection to an upstream is made with. In PEM. */
export interface TlsMaterial {
  readonly anchors: string;
  readonly client?: { readonly chain: string; readonly key: string };
}

/** Often enough for a certificate of minutes; a look at three small files costs next to nothing. */
const lookEveryMs = 2000;

/**
 * Follows files that somebody else renews. A chain without its key, caught between two writes, is not taken up. Throws
 * AUTHORITY_MISCONFIGURED, later and for good reason, if they can't be used from the start.
 */
export function followTlsFiles(options: {
  /** For messages, as `ca.backends.NAME`. */
  readonly setting: string;
  readonly caFile: string;
  readonly certificateFile?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly random: Random;
  readonly log: Log;
}): PolledValue<TlsMaterial> {
  const { setting, caFile, certificateFile, keyFile, random, log } = options;
  return createPolledValue<TlsMaterial>({
    what: `the TLS files of ${setting}`,
    async ask() {
      const anchors = await certificates(`${setting}.caFile`, caFile);
      if (certificateFile === undefined || keyFile === undefined) return { anchors };
      const chain = await certificates(`${setting}.certificateFile`, certificateFile);
      const key = await privateKey(`${setting}.keyFile`, keyFile, chain);
      return { anchors, client: { chain, key } };
    },
    everyMs: lookEveryMs,
    isSame: (a, b) => a.anchors === b.anchors && a.client?.chain === b.client?.chain && a.client?.key === b.client?.key,
    onChange: () => undefined,
    random,
    log,
  });
}

async function certificates(setting: string, file: string): Promise<string> {
  return naming(setting, async () => {
    const pem = await readSecret(setting, file);
    certificatesFromPem(pem);
    return pem;
  });
}

async function privateKey(setting: string, file: string, chain: string): Promise<string> {
  return naming(setting, async () => {
    const pem = await readSecret(setting, file);
    const [leaf] = certificatesFromPem(chain);
    if (!leaf || !spkiOf(importPrivateKey(pem)).equals(parseCertificate(leaf).spki))
      throw new SignetError('INVALID_ARGUMENT', 'it is not the key of the first certificate in certificateFile');
    return pem;
  });
}

async function naming<T>(setting: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const { code, message } = SignetError.from(error);
    throw new SignetError('AUTHORITY_MISCONFIGURED', code === 'CONFIG_INVALID' ? message : `${setting}: ${message}`, { cause: error });
  }
}
