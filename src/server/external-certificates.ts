import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { openExternalCaFile } from '../identity/external-ca.ts';
import type { ExternalCaFile } from '../identity/external-ca.ts';
import { createExternalCertificateAuthenticator } from '../identity/external-certificate.ts';
import type { ExternalCertificateAuthenticator } from '../identity/external-certificate.ts';
import type { TrustDomain } from '../spiffe/id.ts';
import { pemEncode } from '../x509/pem.ts';
import type { Config } from './config/schema.ts';

/** CAs whose client certificates the TLS listener verifies, without any workload trusting them. */
export interface ClientCas {
  pem(): string;
  onChange(listener: () => void): () => void;
}

export interface ExternalCertificates {
  readonly authenticator: ExternalCertificateAuthenticator;
  readonly cas: ClientCas;
  close(): void;
}

/** The sources under `identity.certificates`. Throws CONFIG_INVALID naming the file that can't be used. */
export async function openExternalCertificates(parts: {
  readonly config: Config;
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly log: Log;
}): Promise<ExternalCertificates> {
  const { clock, log, trustDomain } = parts;
  const files: ExternalCaFile[] = [];
  const close = (): void => {
    for (const file of files) file.close();
  };
  try {
    const sources = [];
    for (const { caFile, ...rule } of parts.config.identity.certificates) {
      const ca = await openExternalCaFile(caFile, { clock, log });
      files.push(ca);
      sources.push({ ...rule, ca });
    }
    return {
      authenticator: createExternalCertificateAuthenticator({ sources, trustDomain, clock }),
      cas: {
        pem: () =>
          files
            .flatMap((file) => [...file.current().anchors, ...file.current().intermediates])
            .map((der) => pemEncode('CERTIFICATE', der))
            .join(''),
        onChange(listener) {
          const stops = files.map((file) => file.onChange(listener));
          return () => {
            for (const stop of stops) stop();
          };
        },
      },
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}
