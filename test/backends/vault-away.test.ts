/** An Envoy whose certificates come from a real OpenBao, which is stopped and started. */
import { describeAuthorityAway } from '../support/authority-away-story.ts';
import { baoAppRole, baoPki, signingRole } from '../support/engines/openbao-pki.ts';
import { signingPolicy, vaultWorld } from '../support/vault-world.ts';

describeAuthorityAway('vault', async () => {
  const world = await vaultWorld();
  const { bao } = world;
  await baoPki(bao, { trustDomain: 'cluster.local', role: { ...signingRole, allowed_uri_sans: ['spiffe://cluster.local/*'] } });
  const { roleId, secretId } = await baoAppRole(bao, { policy: signingPolicy });
  return {
    settings: {
      type: 'vault',
      address: bao.address,
      caFile: bao.caFile,
      login: { type: 'approle', roleIdFile: await world.put('role-id', roleId), secretIdFile: await world.put('secret-id', secretId) },
      role: 'signet',
    },
    stop: () => bao.stop(),
    start: () => bao.start(),
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
});
