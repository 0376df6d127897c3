import { readFile } from 'node:fs/promises';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Authenticator } from '../identity/authenticator.ts';
import { combineAuthenticators } from '../identity/authenticators.ts';
import { createCertificateAuthenticator } from '../identity/certificate-authenticator.ts';
import { createDevIssuerKey, openDevIssuer } from '../identity/dev-issuer.ts';
import type { IssuerSettings } from '../identity/issuer-settings.ts';
import { issuerOverlap } from '../identity/issuer-settings.ts';
import type { TokenAuthenticator } from '../identity/token-authenticator.ts';
import { createTokenAuthenticator } from '../identity/token-authenticator.ts';
import { createTokenReviewer } from '../identity/token-review.ts';
import type { TrustDomain } from '../spiffe/id.ts';
import { createFile } from '../store/atomic-file.ts';
import type { DataFolder } from '../store/data-folder.ts';
import type { Store } from '../store/store.ts';
import type { TrustBundle } from '../trust/trust-bundle.ts';
import type { Clusters } from './clusters.ts';
import type { Config } from './config/schema.ts';
import { openExternalCertificates } from './external-certificates.ts';
import type { ClientCas } from './external-certificates.ts';
import { apiAudiences, devIssuerSettings, issuerSettings } from './config/settings.ts';
import type { ApiAudiences } from './config/settings.ts';

export interface Identity {
  readonly authenticator: Authenticator;
  readonly tokens: TokenAuthenticator;
  /** Beside the trust bundle: whose client certificates TLS verifies. */
  readonly clientCas: ClientCas;
  readonly audiences: ApiAudiences;
  close(): void;
}

export interface IdentityParts {
  readonly config: Config;
  readonly trustDomain: TrustDomain;
  readonly folder: DataFolder;
  readonly dev: boolean;
  readonly store: Pick<Store, 'issued'>;
  readonly trust: TrustBundle;
  readonly clusters: Clusters;
  readonly clock: Clock;
  readonly log: Log;
}

/** Tokens of the configured issuers (and in dev mode of our own), and certificates that we issued. */
export async function openIdentity(parts: IdentityParts): Promise<Identity> {
  const { config, trustDomain, store, trust, clock, log } = parts;
  const issuers: IssuerSettings[] = config.identity.issuers.map((issuer) => withAllowDefault(issuerSettings(issuer), parts.dev));
  if (parts.dev) issuers.push(besideOthers(await devIssuer(parts.folder, clock), issuers, log));
  const tokens = createTokenAuthenticator({
    issuers,
    trustDomain,
    maxTokenLifetimeMs: config.identity.maxTokenLifetime,
    reviewers: new Map([...parts.clusters.clients].map(([issuer, client]) => [issuer, createTokenReviewer(client)])),
    clock,
    log,
  });
  const closing = new AbortController();
  await tokens.start(closing.signal);
  const external = await openExternalCertificates({ config, trustDomain, clock, log });
  const certificates = createCertificateAuthenticator({
    trustDomain,
    anchors: () => trust.current().anchors.certificates,
    issued: (serial) => store.issued.get(serial),
    reauthenticateAfterMs: config.identity.reauthenticateAfter,
    allows: (issuer, spiffeId) => tokens.allows(issuer, spiffeId) || external.authenticator.allows(issuer, spiffeId),
    clock,
  });
  return {
    authenticator: combineAuthenticators({ token: tokens, certificate: certificates, external: external.authenticator }),
    tokens,
    clientCas: external.cas,
    audiences: apiAudiences(issuers),
    close() {
      closing.abort();
      tokens.close();
      external.close();
    },
  };
}

/** Only in dev mode does an issuer without patterns speak for everybody: config/cross-check.ts refuses it elsewhere. */
function withAllowDefault(settings: IssuerSettings, dev: boolean): IssuerSettings {
  return dev && settings.allow.length === 0 ? { ...settings, allow: ['**'] } : settings;
}

/** Each issuer owns its paths: where a configured one has those that are customary, the development issuer moves aside. */
function besideOthers(own: IssuerSettings, others: readonly IssuerSettings[], log: Log): IssuerSettings {
  if (!others.some((other) => issuerOverlap(own, other) !== undefined)) return own;
  const moved = { ...own, path: `/dev${own.path}` };
  log.warn(
    { path: moved.path },
    'a configured issuer names identities under the same path; those of the development issuer are under /dev/',
  );
  return moved;
}

/** Makes the development issuer's key at the first start; `signet token` reads it from the folder. */
async function devIssuer(folder: DataFolder, clock: Clock): Promise<IssuerSettings> {
  createFile(folder.issuerKey, createDevIssuerKey());
  const issuer = openDevIssuer(await readFile(folder.issuerKey, 'utf8'), { clock });
  return devIssuerSettings({ issuer: issuer.issuer, jwks: issuer.jwks() });
}
