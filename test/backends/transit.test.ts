import { z } from 'zod';
import { systemClock } from '../../src/base/clock.ts';
import { createSignerKey, openSigner } from '../../src/ca/open-signer.ts';
import type { SignerParts } from '../../src/ca/signer.ts';
import { transitSettings } from '../../src/ca/vault-transit/settings.ts';
import { baoAppRole } from '../support/engines/openbao-pki.ts';
import { openBaoVersion } from '../support/engines/openbao.ts';
import { signerSuite } from '../support/signer-suite.ts';
import { silentLog } from '../support/silent-log.ts';
import { vaultWorld } from '../support/vault-world.ts';

const never = new AbortController().signal;
const parts: SignerParts = { setting: 'signer', clock: systemClock, log: silentLog, env: {} };
const policy = `
path "transit/sign/ca/+" { capabilities = ["update"] }
path "transit/keys/ca" { capabilities = ["read"] }
# There is none of that name: else Vault would say no before it looks.
path "transit/keys/nobody" { capabilities = ["read"] }
`;
const wrongSecret = '11111111-1111-4111-8111-111111111111';

signerSuite({
  name: 'transit',
  engine: `OpenBao ${openBaoVersion}`,
  async make(kind) {
    const world = await vaultWorld();
    const { bao } = world;
    await bao.api('POST', 'sys/mounts/transit', { type: 'transit' });
    const { roleId, secretId } = await baoAppRole(bao, { policy });
    const login = {
      type: 'approle',
      roleIdFile: await world.put('role-id', roleId),
      secretIdFile: await world.put('secret-id', secretId),
    };
    const settings = (over: object = {}) =>
      transitSettings.parse({ type: 'transit', address: bao.address, caFile: bao.caFile, login, key: 'ca', ...over });
    // Made by somebody who may, used by somebody who may do nothing else.
    const maker = settings({ login: { type: 'token', tokenFile: await world.put('root', bao.rootToken) } });
    const made = await createSignerKey(maker, kind, parts, never);
    await made.signer.close();
    const wrong = { ...login, secretIdFile: await world.put('wrong', wrongSecret) };
    const user = await bao.api('POST', 'auth/approle/login', { role_id: roleId, secret_id: secretId });
    const token = z.string().parse(user['client_token']);
    return {
      open: () => openSigner(settings(), parts, never),
      secrets: [roleId, secretId, wrongSecret],
      faults: {
        outage: bao,
        openRefused: () => openSigner(settings({ login: wrong }), parts, never),
        openMissing: () => openSigner(settings({ key: 'nobody' }), parts, never),
        async disable() {
          await bao.api('DELETE', 'transit/keys/ca/soft-delete');
          return async () => {
            await bao.api('POST', 'transit/keys/ca/soft-delete-restore');
          };
        },
        async throttle() {
          await bao.api('POST', 'sys/quotas/rate-limit/signing', { path: 'transit/', rate: 5, interval: '1s' });
          return async () => {
            await bao.api('DELETE', 'sys/quotas/rate-limit/signing');
          };
        },
        async loseSession() {
          await bao.api('PUT', 'sys/leases/revoke-prefix/auth/approle/login');
        },
        createAgain: () => createSignerKey(maker, kind, parts, never),
        async takeKey() {
          // Not even for root.
          for (const as of [token, bao.rootToken]) {
            for (const path of ['export/signing-key/ca', 'export/encryption-key/ca', 'backup/ca']) {
              const taken = await bao.api('GET', `transit/${path}`, undefined, { token: as }).catch(() => undefined);
              if (taken) return Buffer.from(JSON.stringify(taken));
            }
          }
          return undefined;
        },
      },
      dispose: () => world[Symbol.asyncDispose](),
    };
  },
});
