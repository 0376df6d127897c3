import { setTimeout as sleep } from 'node:timers/promises';
import { authoritySuite } from '../support/authority-suite.ts';
import { baoAppRole, baoPki } from '../support/engines/openbao-pki.ts';
import { openBaoVersion } from '../support/engines/openbao.ts';
import { signingPolicy, vaultTrustDomain, vaultWorld } from '../support/vault-world.ts';

// Allowed, but there is no such role: else Vault would say no before it looks.
const policy = `${signingPolicy}
path "pki/issuer/+/sign/none-such" { capabilities = ["update"] }
`;

authoritySuite({
  name: 'vault',
  engine: `OpenBao ${openBaoVersion}`,
  trustDomain: vaultTrustDomain,
  intermediates: 1,
  async make() {
    const world = await vaultWorld();
    const { bao } = world;
    const pki = await baoPki(bao, { trustDomain: vaultTrustDomain });
    // Renewed at 4 s, replaced at 10 s: the suite outlives both.
    const { roleId, secretId } = await baoAppRole(bao, { policy, settings: { token_ttl: '4s', token_max_ttl: '10s' } });
    const roleIdFile = await world.put('role-id', roleId);
    const secretIdFile = await world.put('secret-id', secretId);
    const wrongIdFile = await world.put('wrong-id', '11111111-1111-4111-8111-111111111111');
    const login = { type: 'approle', roleIdFile, secretIdFile };
    return {
      open: () => world.open({ login }),
      faults: {
        outage: bao,
        openRefused: () => world.open({ login: { ...login, secretIdFile: wrongIdFile } }),
        openMisconfigured: () => world.open({ login, role: 'none-such' }),
        async throttle() {
          await bao.api('POST', 'sys/quotas/rate-limit/signing', { path: `${pki.mount}/`, rate: 5, interval: '1s' });
          return async () => {
            await bao.api('DELETE', 'sys/quotas/rate-limit/signing');
          };
        },
        rotate: pki.rotate,
        outliveCredential: () => sleep(12_000),
      },
      dispose: () => world[Symbol.asyncDispose](),
    };
  },
});
