import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { abortable, deadlineSignal } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Authority } from '../ca/authority.ts';
import type { CaState } from '../ca/ca-state.ts';
import { keyOf } from '../ca/files/settings.ts';
import type { KeySeal } from '../ca/key-seal.ts';
import { guarded } from '../ca/resilience/guarded-authority.ts';
import type { GuardedAuthority } from '../ca/resilience/guarded-authority.ts';
import type { TrustDomain } from '../spiffe/id.ts';
import { sha256Hex } from '../x509/keys.ts';
import { fallbackOf } from './config/backend-schema.ts';
import type { BackendConfig, Config } from './config/schema.ts';
import { readSecret } from '../base/secret-file.ts';

const anchorsTimeoutMs = 30_000;
/** Some HSMs take their time for a login. */
const signerTimeoutMs = 60_000;
/** A root is with everybody who is connected well within this: see active-anchors.ts. */
const rootDistributionMs = 120_000;

export interface AuthorityParts {
  readonly config: Config;
  readonly trustDomain: TrustDomain;
  readonly state: CaState;
  readonly seal: KeySeal;
  readonly clock: Clock;
  readonly log: Log;
  /** Stands before each backend: how tests make a CA hang and fail. */
  readonly before?: ((authority: Authority) => Authority) | undefined;
}

/** The CA backends in use, by name. What is behind a name may be exchanged while others use it. */
export interface Authorities {
  readonly current: ReadonlyMap<string, GuardedAuthority>;
  /**
   * Opens the backends of another configuration that aren't in use as they are now. Nobody signs with them before `take`.
   * Throws as opening does, and leaves nothing open then.
   */
  prepare(config: Config): Promise<PreparedAuthorities>;
  close(): Promise<void>;
}

export interface PreparedAuthorities {
  /** Those that were opened for it. */
  readonly opened: ReadonlyMap<string, GuardedAuthority>;
  /** From now on these are in use. What they replace is closed once the calls under way can have ended. */
  take(): void;
  discard(): Promise<void>;
}

/** The configured CA backends. A backend's code is loaded only if it is used. */
export async function openAuthorities(parts: AuthorityParts): Promise<Authorities> {
  const current = new Map<string, GuardedAuthority>();
  const leaving = new Set<() => Promise<void>>();
  let used = parts.config.ca.backends;

  /** A reply that is under way is waited for, as long as one may take. */
  function closeLater(authority: Authority, afterMs: number): void {
    const close = (): Promise<void> => {
      clearTimeout(timer);
      leaving.delete(close);
      return authority.close().catch((error: unknown) => {
        parts.log.warn({ authority: authority.name, err: error }, 'a CA backend that was replaced did not close well');
      });
    };
    const timer = setTimeout(() => void close(), afterMs);
    timer.unref();
    leaving.add(close);
  }

  const open = (names: readonly string[], config: Config): Promise<Map<string, GuardedAuthority>> =>
    openAll(names, config, parts, (name) => fallbackOf(used[name]));
  for (const [name, authority] of await open(Object.keys(used), parts.config)) current.set(name, authority);

  return {
    current,
    async prepare(config) {
      const { backends, signing } = config.ca;
      const opened = await open(backendsToOpen(used, backends), config);
      return {
        opened,
        take() {
          for (const [name, authority] of [...current]) {
            if (Object.hasOwn(backends, name) && !opened.has(name)) continue;
            current.delete(name);
            closeLater(authority, signing.timeout);
          }
          for (const [name, authority] of opened) current.set(name, authority);
          used = backends;
        },
        discard: () => closeAll(opened.values()),
      };
    },
    async close() {
      await Promise.all([...leaving].map((close) => close()));
      await closeAll(current.values());
    },
  };
}

type Backends = Config['ca']['backends'];

/**
 * The names whose backend is new or reached in another way. What the operator says of its anchors and its fallback
 * needs no other connection, and must take effect while it is away; certificates and keys in files may have changed although their paths have not.
 */
function backendsToOpen(used: Backends, wanted: Backends): string[] {
  return Object.keys(wanted).filter((name) => {
    const [before, after] = [used[name], wanted[name]];
    return before === undefined || after?.type === 'files' || connection(before) !== connection(after);
  });
}

function connection(backend: BackendConfig | undefined): string {
  // By its anchors it decides what it signs under.
  if (backend?.type === 'vault' || backend?.type === 'intermediate') return JSON.stringify({ ...backend, fallback: undefined });
  return JSON.stringify({ ...backend, anchors: undefined, approvedAnchors: undefined, fallback: undefined });
}

async function openAll(
  names: readonly string[],
  config: Config,
  parts: AuthorityParts,
  fallback: (name: string) => string | undefined,
): Promise<Map<string, GuardedAuthority>> {
  const opened = new Map<string, GuardedAuthority>();
  try {
    for (const name of names) {
      const backend = config.ca.backends[name];
      if (!backend) continue;
      const authority = await openAuthority(name, backend, parts);
      opened.set(
        name,
        guarded(parts.before?.(authority) ?? authority, {
          clock: parts.clock,
          random: Math.random,
          log: parts.log,
          timeoutMs: config.ca.signing.timeout,
          fallback: () => fallback(name),
        }),
      );
    }
  } catch (error) {
    await closeAll(opened.values());
    throw error;
  }
  return opened;
}

async function openAuthority(name: string, backend: BackendConfig, parts: AuthorityParts): Promise<Authority> {
  const { trustDomain, clock, log } = parts;
  switch (backend.type) {
    case 'builtin': {
      const { openBuiltinAuthority } = await import('../ca/builtin/builtin-authority.ts');
      return openBuiltinAuthority({
        name,
        trustDomain,
        state: parts.state,
        seal: parts.seal,
        clock,
        log,
        rootLifeMs: backend.rootLife,
        intermediateLifeMs: backend.intermediateLife,
      });
    }
    case 'files': {
      const { openFilesAuthority } = await import('../ca/files/files-authority.ts');
      const files = { name, trustDomain, rootFile: backend.root, intermediateFile: backend.intermediate, clock, log };
      const setting = `ca.backends.${name}`;
      const key = keyOf(backend);
      if (!key) throw new SignetError('CONFIG_INVALID', `${setting}: give exactly one of key and signer`);
      if ('file' in key) {
        const { file, passphraseFile } = key;
        const passphrase = passphraseFile === undefined ? undefined : await readSecret(`${setting}.passphraseFile`, passphraseFile);
        return openFilesAuthority({ ...files, keyFile: file, passphrase });
      }
      const { openSigner } = await import('../ca/open-signer.ts');
      const signer = await openSigner(
        key.signer,
        { setting: `${setting}.signer`, clock, log, env: process.env },
        deadlineSignal(signerTimeoutMs),
      );
      try {
        return await openFilesAuthority({ ...files, signer });
      } catch (error) {
        await signer.close();
        throw error;
      }
    }
    case 'vault': {
      const { openVaultAuthority } = await import('../ca/vault/vault-authority.ts');
      return openVaultAuthority({ name, trustDomain, settings: backend, clock, log });
    }
    case 'aws-pca': {
      const { openAwsPcaAuthority } = await import('../ca/aws-pca/aws-pca-authority.ts');
      const { certificateAuthority, endpoint } = backend;
      return openAwsPcaAuthority({ name, certificateAuthority, endpoint, clock, random: Math.random, log });
    }
    case 'gcp-cas': {
      const { openGcpCasAuthority } = await import('../ca/gcp-cas/gcp-cas-authority.ts');
      const { caPool, certificateTemplate, credentialsFile, endpoint } = backend;
      return openGcpCasAuthority({ name, caPool, certificateTemplate, credentialsFile, endpoint, clock, random: Math.random, log });
    }
    case 'plugin': {
      const { openPluginAuthority } = await import('../ca/plugin/plugin-authority.ts');
      const { configuredSource } = await import('../ca/plugin/configured-source.ts');
      const folder = join(parts.config.data, 'plugins');
      const source = configuredSource(backend, { name, folder, environment: process.env, clock, log });
      return openPluginAuthority({ name, trustDomain, source, startTimeoutMs: backend.startTimeout, random: Math.random, log });
    }
    case 'kubernetes-csr': {
      const { openKubernetesCsrAuthority } = await import('../ca/kubernetes-csr/kubernetes-csr-authority.ts');
      const { signerName, rootsFrom } = backend;
      return openKubernetesCsrAuthority({ name, cluster: backend, signerName, rootsFrom, clock, random: Math.random, log });
    }
    case 'cert-manager': {
      const { openCertManagerAuthority } = await import('../ca/cert-manager/cert-manager-authority.ts');
      const { namespace, issuer, rootsFrom } = backend;
      return openCertManagerAuthority({ name, cluster: backend, namespace, issuer, rootsFrom, clock, random: Math.random, log });
    }
    case 'intermediate': {
      const { openIntermediateAuthority } = await import('../ca/intermediate/intermediate-authority.ts');
      const { openIntermediateUpstream } = await import('./intermediate-upstream.ts');
      const upstream = await openIntermediateUpstream(name, backend, { trustDomain, clock, log });
      const authority = openIntermediateAuthority({
        name,
        trustDomain,
        state: parts.state,
        seal: parts.seal,
        upstream,
        mayTrust: (root) => backend.anchors === 'follow' || backend.approvedAnchors.includes(sha256Hex(root)),
        lifeMs: backend.life,
        distributionMs: rootDistributionMs,
        clock,
        random: Math.random,
        log,
      });
      return authority.catch(async (error: unknown) => {
        await upstream.close();
        throw error;
      });
    }
    case 'istio': {
      const { openIstioAuthority } = await import('../ca/istio/istio-authority.ts');
      return openIstioAuthority({ name, settings: backend, clock, random: Math.random, log });
    }
    case 'step-ca': {
      const { openStepCaAuthority } = await import('../ca/step-ca/step-ca-authority.ts');
      return openStepCaAuthority({ name, settings: backend, clock, random: Math.random, log });
    }
  }
}

async function closeAll(authorities: Iterable<Authority>): Promise<void> {
  await Promise.allSettled([...authorities].map((authority) => authority.close()));
}

export function authorityAnchors(authority: Authority): Promise<readonly Buffer[]> {
  const signal = deadlineSignal(anchorsTimeoutMs);
  return abortable(authority.anchors(signal), signal);
}
