import type { Clock } from '../../base/clock.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { formatDuration } from '../../base/duration.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import type { Authority } from '../authority.ts';
import { signLeaf } from '../leaf-signing.ts';
import { loadCaFiles } from './ca-files.ts';
import type { CaFiles } from './ca-files.ts';

export type FilesAuthorityOptions = CaFiles & {
  readonly name: string;
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly log: Log;
};

const warnBeforeMs = 30 * 86_400_000;

/**
 * An operator's CA from PEM files: a root with its key, or an intermediate with its key below a root whose key is kept
 * elsewhere. Read and verified once, here. The key is in a file as well, or a signer is given, which is closed together
 * with this. Throws AUTHORITY_MISCONFIGURED naming the file, or KEY_UNSEALABLE.
 */
export async function openFilesAuthority(options: FilesAuthorityOptions): Promise<Authority> {
  const { name, clock, log } = options;
  const signer = 'signer' in options ? options.signer : undefined;
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
    // What a signer returns came from elsewhere: the pipeline verifies it as it does a foreign chain.
    capabilities: { builtHere: signer === undefined, exactLife: true },
    sign: (request, signal) =>
      clock.now() < ca.issuersEnd
        ? signLeaf(ca, request, signal)
        : Promise.reject(new SignetError('AUTHORITY_MISCONFIGURED', `the CA certificate of ${name} has ended`)),
    anchors: () => Promise.resolve([ca.root]),
    issuersEnd: () => ca.issuersEnd,
    async health(signal) {
      const ends = new Date(ca.issuersEnd).toISOString();
      if (clock.now() >= ca.issuersEnd) return { canSign: false, detail: `its CA certificate ended at ${ends}` };
      const detail = `its CA certificates are good until ${ends}`;
      if (!signer) return { canSign: true, detail };
      const keeper = await signer.health(signal);
      return { canSign: keeper.canSign, detail: `${keeper.detail}; ${detail}` };
    },
    // The files are read once: nothing here changes before a restart.
    onChange: () => () => undefined,
    close: async () => signer?.close(),
  };
}
