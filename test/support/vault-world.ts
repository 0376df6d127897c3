import { writeFile } from 'node:fs/promises';
import { systemClock } from '../../src/base/clock.ts';
import type { Log } from '../../src/base/log.ts';
import type { Authority } from '../../src/ca/authority.ts';
import { vaultSettings } from '../../src/ca/vault/settings.ts';
import { openVaultAuthority } from '../../src/ca/vault/vault-authority.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { checkIssued } from '../../src/x509/chain.ts';
import type { SignedChain, SigningRequest } from '../../src/ca/authority.ts';
import { startOpenBao } from './engines/openbao.ts';
import type { OpenBao } from './engines/openbao.ts';
import { silentLog } from './silent-log.ts';
import { tempFolder } from './temp.ts';
import type { TempFolder } from './temp.ts';

export const vaultTrustDomain = parseTrustDomain('example.org');

/** What docs/how-to/ca-vault.md says that Signet needs. */
export const signingPolicy = `
path "pki/issuer/+/sign/signet" { capabilities = ["update"] }
path "pki/issuer/default" { capabilities = ["read"] }
`;

/** A real OpenBao, a folder for credentials, and authorities that sign by it. */
export interface VaultWorld {
  readonly bao: OpenBao;
  readonly folder: TempFolder;
  /** Writes a credential into a file and gives its path. */
  put(name: string, content: string): Promise<string>;
  open(settings: object, log?: Log): Promise<Authority>;
  [Symbol.asyncDispose](): Promise<void>;
}

export async function vaultWorld(): Promise<VaultWorld> {
  const bao = await startOpenBao();
  const folder = await tempFolder();
  return {
    bao,
    folder,
    async put(name, content) {
      await writeFile(folder.file(name), content, { mode: 0o600 });
      return folder.file(name);
    },
    open: (settings, log = silentLog) =>
      openVaultAuthority({
        name: 'vault',
        trustDomain: vaultTrustDomain,
        clock: systemClock,
        log,
        settings: vaultSettings.parse({
          type: 'vault',
          address: bao.address,
          caFile: bao.caFile,
          role: 'signet',
          poll: '1s',
          settle: '2s',
          ...settings,
        }),
      }),
    async [Symbol.asyncDispose]() {
      await bao[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** As the issuing pipeline judges it. Throws AUTHORITY_MISBEHAVED. */
export async function checkSigned(authority: Authority, asked: SigningRequest, { certificates }: SignedChain): Promise<void> {
  checkIssued({
    chain: certificates,
    anchors: await authority.anchors(new AbortController().signal),
    at: Date.now(),
    expected: { spkiSha256: asked.spkiSha256, spiffeId: asked.spiffeId, notAfter: asked.notAfter },
  });
}
