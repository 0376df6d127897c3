import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { EnvoyAddress } from '../envoy-config/settings.ts';
import { authority } from '../envoy-config/yaml.ts';

export interface Tried {
  readonly target: string;
  readonly how: 'in clear' | 'TLS without a certificate';
  readonly refused: boolean;
  /** What was answered, or how it was refused. */
  readonly outcome: string;
}

const tryMs = 5000;
/** What says that somebody answered and meant it. A door that doesn't exist, or says nothing for long, has refused nothing. */
const refusals = ['ECONNRESET', 'EPIPE', 'HPE_INVALID_CONSTANT'];

/** One who has no identity at a door for mTLS. Never rejects. */
export async function knock(address: EnvoyAddress): Promise<readonly Tried[]> {
  const target = authority(address);
  const clear = await attempt((signal) => httpRequest({ ...address, agent: false, signal }));
  // Whoever has no certificate doesn't look whose certificate the server has either.
  const bare = await attempt((signal) => httpsRequest({ ...address, agent: false, signal, rejectUnauthorized: false, servername: '' }));
  return [
    { target, how: 'in clear', ...clear },
    { target, how: 'TLS without a certificate', ...bare },
  ];
}

async function attempt(start: (signal: AbortSignal) => ReturnType<typeof httpRequest>): Promise<Pick<Tried, 'refused' | 'outcome'>> {
  return new Promise((resolve) => {
    const request = start(AbortSignal.timeout(tryMs));
    request.once('response', (response) => {
      response.destroy();
      resolve({ refused: false, outcome: `HTTP ${String(response.statusCode)}` });
    });
    request.once('error', (error: NodeJS.ErrnoException) => {
      const code = error.code ?? error.name;
      // TLS 1.3 lets the client finish its handshake before the server has judged it: the refusal comes as an alert.
      resolve({ refused: refusals.includes(code) || code.startsWith('ERR_SSL_'), outcome: code });
    });
    request.end();
  });
}
