import type { Clock } from '../../base/clock.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { formatDuration } from '../../base/duration.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import type { Authority } from '../authority.ts';
import { signLeaf } from '../leaf-signing.ts';
import { loadCaFiles } from './ca-files.ts';
import type { CaFiles } from './ca-files.ts';

export interface FilesAuthorityOptions extends CaFiles {
  readonly name: string;
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly log: Log;
}

const warnBeforeMs = 30 * 86_400_000;

/**
 * An operator's CA from PEM files: a root with its key, or an intermediate with its key below a root whose key is kept
 * elsewhere. Read and verified once, here. Throws AUTHORITY_MISCONFIGURED naming the file, or KEY_UNSEALABLE.
 */
export async function openFilesAuthority(options: FilesAuthorityOptions): Promise<Authority> {
  const { name, clock, log } = options;
  const ca = await loadCaFiles(options, options.trustDomain, clock.now());
  for (const warning of ca.warnings) log.warn({ authority: name }, warning);
  const left = ca.issuersEnd - clock.now();
  if (left < warnBeforeMs) {
    log.warn(
      { authority: name, ends: new Date(ca.issuersEnd).toISOString() },
      `the CA certificate ends in ${formatDuration(left)}: replace it, and restart`,
    );
  }

  return {
    name,
    type: 'files',
    capabilities: { builtHere: true, exactLife: true },
    sign: (request, signal) =>
      clock.now() < ca.issuersEnd
        ? signLeaf(ca, request, signal)
        : Promise.reject(new SignetError('AUTHORITY_MISCONFIGURED', `the CA certificate of ${name} has ended`)),
    anchors: () => Promise.resolve([ca.root]),
    issuersEnd: () => ca.issuersEnd,
    health() {
      const canSign = clock.now() < ca.issuersEnd;
      const ends = new Date(ca.issuersEnd).toISOString();
      return Promise.resolve({
        canSign,
        detail: canSign ? `its CA certificates are good until ${ends}` : `its CA certificate ended at ${ends}`,
      });
    },
    // The files are read once: nothing here changes before a restart.
    onChange: () => () => undefined,
    close: () => Promise.resolve(),
  };
}
