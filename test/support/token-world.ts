import type { Credentials } from '../../src/identity/authenticator.ts';
import type { IssuerSettings, KeyIssuerSettings } from '../../src/identity/issuer-settings.ts';
import { kubernetesIssuerDefaults } from '../../src/identity/issuer-settings.ts';
import type { KeySourceLimits } from '../../src/identity/key-source.ts';
import { createTokenAuthenticator } from '../../src/identity/token-authenticator.ts';
import type { TokenAuthenticator } from '../../src/identity/token-authenticator.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { recordingLog } from './recording-log.ts';
import type { RecordingLog } from './recording-log.ts';
import { simulatedClock } from './simulated-clock.ts';
import type { SimulatedClock } from './simulated-clock.ts';
import { ecKey, keySet } from './token-forge.ts';
import type { IssuerKey } from './token-forge.ts';

/** A token authenticator with one Kubernetes issuer, unless others are given, on a simulated clock. */
export interface TokenWorld {
  readonly key: IssuerKey;
  readonly clock: SimulatedClock;
  readonly log: RecordingLog;
  readonly authenticator: TokenAuthenticator;
}

export function kubernetesIssuer(fields: Partial<KeyIssuerSettings> = {}): KeyIssuerSettings {
  return {
    id: 'kubernetes',
    issuer: 'https://kubernetes.example',
    audiences: ['signet', 'istio-ca'],
    keys: { inline: keySet() },
    algorithms: ['RS256', 'ES256'],
    ...kubernetesIssuerDefaults(),
    allow: ['*'],
    deny: [],
    ...fields,
  };
}

export function tokenWorld(
  options: { issuers?: readonly IssuerSettings[]; key?: IssuerKey; cacheEntries?: number; keySourceLimits?: KeySourceLimits } = {},
): TokenWorld {
  const key = options.key ?? ecKey();
  const clock = simulatedClock(Date.now());
  const log = recordingLog();
  const authenticator = createTokenAuthenticator({
    issuers: options.issuers ?? [kubernetesIssuer({ keys: { inline: keySet(key) } })],
    trustDomain: parseTrustDomain('example.org'),
    maxTokenLifetimeMs: 86_400_000,
    clock,
    log,
    cacheEntries: options.cacheEntries,
    keySourceLimits: options.keySourceLimits,
  });
  return { key, clock, log, authenticator };
}

export function withToken(token: string | undefined, fields: Partial<Credentials> = {}): Credentials {
  return { token, peerChain: [], instanceHint: undefined, cluster: undefined, audiences: ['signet'], ...fields };
}

export const noHurry = AbortSignal.timeout(60_000);
