import type { Clock } from '../../base/clock.ts';
import { createCsr } from '../../x509/csr.ts';
import { generateKeyPair, privateKeyPem } from '../../x509/keys.ts';
import { pemEncode } from '../../x509/pem.ts';
import type { CertificateClient } from '../certificate-client.ts';
import type { EnvoyAddress } from '../envoy-config/settings.ts';
import { pause } from '../pause.ts';
import type { Answer } from './application.ts';
import type { ClientIdentity } from './mtls-call.ts';
import { mtlsCall } from './mtls-call.ts';
import type { Outcome } from './tally.ts';

/** A service as the client reaches it. */
export interface Target {
  readonly name: string;
  readonly address: EnvoyAddress;
  readonly spiffeId: string;
  /** Whether the answer names every caller on its way as it should. */
  readonly expected: (answer: Answer) => boolean;
}

export interface DemoClient {
  /** Who it is. */
  readonly spiffeId: string;
  /** One request to one service; never rejects. */
  call(target: Target): Promise<Outcome>;
  /** A new key and certificate by SignCertificate at every half-life, until the signal aborts. */
  keepFresh(signal: AbortSignal): Promise<void>;
}

export async function startClient(certificates: CertificateClient, clock: Clock): Promise<DemoClient> {
  let current = await obtain(certificates);
  return {
    spiffeId: current.spiffeId,
    async call(target) {
      try {
        const { serial, answer } = await mtlsCall(target.address, target.spiffeId, current.identity);
        if (!target.expected(answer))
          return { ok: false, error: `${target.name}: an answer of unexpected callers: ${JSON.stringify(answer)}` };
        return { ok: true, serial };
      } catch (error) {
        return { ok: false, error: `${target.name}: ${error instanceof Error ? error.message : String(error)}` };
      }
    },
    async keepFresh(signal) {
      let wait = (current.notAfter - clock.now()) / 2;
      while (!signal.aborted) {
        await pause(Math.max(100, wait), signal);
        try {
          current = await obtain(certificates);
          wait = (current.notAfter - clock.now()) / 2;
        } catch {
          // The old one is good for the other half; if it ends, the failures are counted.
          wait = 500;
        }
      }
    },
  };
}

interface Obtained {
  readonly identity: ClientIdentity;
  readonly spiffeId: string;
  readonly notAfter: number;
}

async function obtain(certificates: CertificateClient): Promise<Obtained> {
  const pair = generateKeyPair();
  const { chain, anchors, notAfter, spiffeId } = await certificates.signCertificate({ csr: createCsr(pair, []), ttlSeconds: 0 });
  const pem = (list: readonly Buffer[]): string => list.map((der) => pemEncode('CERTIFICATE', der)).join('');
  return {
    identity: { certificate: pem(chain), key: privateKeyPem(pair.privateKey), anchors: pem(anchors) },
    spiffeId,
    notAfter: notAfter * 1000,
  };
}
