import type { JwtSvidApi } from '../api/certificate-service.ts';
import type { Clock } from '../base/clock.ts';
import { deadlineSignal } from '../base/deadline.ts';
import type { Log } from '../base/log.ts';
import type { KeySeal } from '../ca/key-seal.ts';
import { createJwtSvids } from '../issuance/jwt-svids.ts';
import type { Recorder } from '../issuance/recorder.ts';
import type { Policy } from '../policy/policy.ts';
import type { TrustDomain } from '../spiffe/id.ts';
import type { Store } from '../store/store.ts';
import { bundleJwks, oidcJwks } from '../trust/jwk-documents.ts';
import { openJwtKeys } from '../trust/jwt-keys.ts';
import type { JwtKeyView } from '../trust/jwt-keys.ts';
import type { Config } from './config/schema.ts';
import type { Page } from '../api/http-listener.ts';

export interface Jwt {
  readonly api: JwtSvidApi;
  /** What the HTTP listener serves besides, by path; nothing without a configured issuer. */
  readonly pages: ReadonlyMap<string, () => Promise<Page>>;
  readonly keys: () => JwtKeyView;
  close(): void;
}

export interface JwtParts {
  readonly config: Config;
  readonly trustDomain: TrustDomain;
  readonly state: Store['trust'];
  readonly seal: KeySeal;
  readonly policy: Policy;
  readonly recorder: Recorder;
  readonly newestIssuedAt: number | undefined;
  readonly onIssued: () => void;
  readonly clock: Clock;
  readonly log: Log;
}

const pageTimeoutMs = 5000;
const keysPath = '/keys';

/** JWT-SVIDs: the keys, who gets a token, and where the keys are published. */
export async function openJwt(parts: JwtParts): Promise<Jwt> {
  const { config, trustDomain, policy, clock, log } = parts;
  const { issuer, ttl, keyLife, refreshHint } = config.jwt;
  const keys = await openJwtKeys({
    state: parts.state,
    seal: parts.seal,
    trustDomain,
    clock,
    log,
    settings: { keyLifeMs: keyLife, refreshHintMs: refreshHint, longestTokenMs: ttl },
  });
  const svids = createJwtSvids({
    policy,
    signer: keys,
    recorder: parts.recorder,
    clock,
    log,
    issuer,
    ttlMs: ttl,
    newestIssuedAt: parts.newestIssuedAt,
    rate: { perSecond: config.limits.issuancePerSecond, burst: config.limits.issuanceBurst },
  });
  return {
    api: {
      async issue(request, signal) {
        const svid = await svids.issue(request, signal);
        parts.onIssued();
        return svid;
      },
      async bundles(caller, signal) {
        policy.grant(caller);
        const { keys: published, sequence, refreshHintMs } = await keys.published(signal);
        return { bundles: [{ trustDomain: `spiffe://${trustDomain}`, jwks: bundleJwks(published), sequence }], refreshHintMs };
      },
    },
    pages: issuer === undefined ? new Map<string, () => Promise<Page>>() : discovery(issuer, refreshHint, keys),
    keys: keys.view,
    close: keys.close,
  };
}

/** OpenID Connect Discovery 1.0 §3, as far as it is for who only verifies tokens: what a Kubernetes API server says of itself. */
function discovery(
  issuer: string,
  refreshHintMs: number,
  keys: Pick<Awaited<ReturnType<typeof openJwtKeys>>, 'published'>,
): ReadonlyMap<string, () => Promise<Page>> {
  const maxAgeSeconds = Math.max(1, Math.floor(refreshHintMs / 1000));
  const page = (text: string): Page => ({ contentType: 'application/json', text, maxAgeSeconds });
  const document = JSON.stringify({
    issuer,
    jwks_uri: `${issuer}${keysPath}`,
    response_types_supported: ['id_token'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['ES256'],
  });
  return new Map<string, () => Promise<Page>>([
    ['/.well-known/openid-configuration', () => Promise.resolve(page(document))],
    [keysPath, async () => page(oidcJwks((await keys.published(deadlineSignal(pageTimeoutMs))).keys))],
  ]);
}
