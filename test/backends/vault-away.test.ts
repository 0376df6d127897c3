import { writeFile } from 'node:fs/promises';
import { describeAuthorityAway } from '../support/authority-away-story.ts';
import type { AwayBackend } from '../support/authority-away-story.ts';
import { baoAppRole, baoPki, signingRole } from '../support/engines/openbao-pki.ts';
import { signingPolicy, vaultWorld } from '../support/vault-world.ts';

// OpenBao needs a second or two until it is unsealed and leads: of 20 s that would be a tenth.
const leafTtl = { text: '40s', ms: 40_000 };

describeAuthorityAway('vault', openVault, { leafTtl });

async function openVault(): Promise<AwayBackend> {
  const world = await vaultWorld();
  const { bao, folder } = world;
  const role = { ...signingRole, allowed_uri_sans: ['spiffe://cluster.local/*'], not_before_duration: '2s' };
  await baoPki(bao, { trustDomain: 'cluster.local', role });
  // Its tokens end in the middle of it all: renewed at 13 s, replaced at 40 s, and dead after the longer outage.
  const { roleId, secretId } = await baoAppRole(bao, { policy: signingPolicy, settings: { token_ttl: '20s', token_max_ttl: '40s' } });
  await writeFile(folder.file('role-id'), roleId);
  await writeFile(folder.file('secret-id'), secretId);
  return {
    settings: {
      type: 'vault',
      address: bao.address,
      caFile: bao.caFile,
      login: { type: 'approle', roleIdFile: folder.file('role-id'), secretIdFile: folder.file('secret-id') },
      role: 'signet',
      poll: '1s',
    },
    stop: () => bao.stop(),
    start: () => bao.start(),
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
}
