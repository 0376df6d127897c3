import type { Clock } from '../base/clock.ts';
import { abortable, deadlineSignal } from '../base/deadline.ts';
import type { Log } from '../base/log.ts';
import type { Authority } from '../ca/authority.ts';
import type { CaState } from '../ca/ca-state.ts';
import type { KeySeal } from '../ca/key-seal.ts';
import type { TrustDomain } from '../spiffe/id.ts';
import type { BackendConfig, Config } from './config/schema.ts';
import { readSecret } from '../base/secret-file.ts';

const anchorsTimeoutMs = 30_000;

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

/** The configured CA backends by name. A backend's code is loaded only if it is used. */
export async function openAuthorities(parts: AuthorityParts): Promise<ReadonlyMap<string, Authority>> {
  const opened = new Map<string, Authority>();
  try {
    for (const [name, backend] of Object.entries(parts.config.ca.backends)) {
      const authority = await openAuthority(name, backend, parts);
      opened.set(name, parts.before?.(authority) ?? authority);
    }
  } catch (error) {
    await closeAuthorities(opened);
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
      const passphrase =
        backend.passphraseFile === undefined ? undefined : await readSecret(`ca.backends.${name}.passphraseFile`, backend.passphraseFile);
      return openFilesAuthority({
        name,
        trustDomain,
        rootFile: backend.root,
        keyFile: backend.key,
        clock,
        log,
        ...(backend.intermediate === undefined ? {} : { intermediateFile: backend.intermediate }),
        ...(passphrase === undefined ? {} : { passphrase }),
      });
    }
  }
}

export async function closeAuthorities(authorities: ReadonlyMap<string, Authority>): Promise<void> {
  await Promise.allSettled([...authorities.values()].map((authority) => authority.close()));
}

/** The name under which a backend's anchors are in the trust bundle. */
export function anchorsSource(name: string): string {
  return `authority:${name}`;
}

export function authorityAnchors(authority: Authority): Promise<readonly Buffer[]> {
  const signal = deadlineSignal(anchorsTimeoutMs);
  return abortable(authority.anchors(signal), signal);
}
