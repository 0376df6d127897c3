import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../src/base/clock.ts';
import { openVaultAuthority } from '../../src/ca/vault/vault-authority.ts';
import { vaultSettings } from '../../src/ca/vault/settings.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { authoritySuite } from '../support/authority-suite.ts';
import { baoAppRole, baoPki } from '../support/engines/openbao-pki.ts';
import { openBaoVersion, startOpenBao } from '../support/engines/openbao.ts';
import { silentLog } from '../support/silent-log.ts';
import { tempFolder } from '../support/temp.ts';

const trustDomain = parseTrustDomain('example.org');
const policy = `
path "pki/issuer/+/sign/signet" { capabilities = ["update"] }
path "pki/issuer/default" { capabilities = ["read"] }
# Allowed, but there is no such role: else Vault would say no before it looks.
path "pki/issuer/+/sign/none-such" { capabilities = ["update"] }
`;

authoritySuite({
  name: 'vault',
  engine: `OpenBao ${openBaoVersion}`,
  trustDomain,
  intermediates: 1,
  async make() {
    const bao = await startOpenBao();
    const folder = await tempFolder();
    const pki = await baoPki(bao, { trustDomain });
    // Renewed at 4 s, replaced at 10 s: the suite outlives both.
    const { roleId, secretId } = await baoAppRole(bao, { policy, settings: { token_ttl: '4s', token_max_ttl: '10s' } });
    await writeFile(folder.file('role-id'), roleId);
    await writeFile(folder.file('secret-id'), secretId);
    await writeFile(folder.file('wrong-id'), '11111111-1111-4111-8111-111111111111');

    const open = (over: object = {}, secretIdFile = 'secret-id') =>
      openVaultAuthority({
        name: 'vault',
        trustDomain,
        clock: systemClock,
        log: silentLog,
        settings: vaultSettings.parse({
          type: 'vault',
          address: bao.address,
          caFile: bao.caFile,
          login: { type: 'approle', roleIdFile: folder.file('role-id'), secretIdFile: folder.file(secretIdFile) },
          role: 'signet',
          poll: '1s',
          settle: '2s',
          ...over,
        }),
      });
    return {
      open,
      faults: {
        outage: bao,
        openRefused: () => open({}, 'wrong-id'),
        openMisconfigured: () => open({ role: 'none-such' }),
        async throttle() {
          await bao.api('POST', 'sys/quotas/rate-limit/signing', { path: `${pki.mount}/`, rate: 5, interval: '1s' });
          return async () => {
            await bao.api('DELETE', 'sys/quotas/rate-limit/signing');
          };
        },
        rotate: pki.rotate,
        outliveCredential: () => sleep(12_000),
      },
      async dispose() {
        await bao[Symbol.asyncDispose]();
        await folder[Symbol.asyncDispose]();
      },
    };
  },
});
