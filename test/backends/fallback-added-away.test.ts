/** OpenBao is away and nobody stands in for it: a fallback is added by SIGHUP, and certificates keep coming. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { baoAppRole, baoPki, signingRole } from '../support/engines/openbao-pki.ts';
import { eventually } from '../support/eventually.ts';
import { describeLoad, startLoad } from '../support/load.ts';
import { startMesh } from '../support/mesh.ts';
import type { Mesh } from '../support/mesh.ts';
import { askAdmin } from '../support/signet.ts';
import { signingPolicy, vaultWorld } from '../support/vault-world.ts';

async function signer(mesh: Mesh, spiffeId: string): Promise<string | undefined> {
  return askAdmin(mesh.signet.data, async (admin) => {
    for await (const [newest] of admin.certificates({ spiffeId, instance: '', unexpired: true, limit: 1 })) return newest?.authority;
    return undefined;
  });
}

describe('a fallback that is added while the first is away', () => {
  it('takes over without a restart, gives back when the first returns, and nothing fails', async (t) => {
    await using world = await vaultWorld();
    const { bao } = world;
    await baoPki(bao, { trustDomain: 'cluster.local', role: { ...signingRole, allowed_uri_sans: ['spiffe://cluster.local/*'] } });
    const { roleId, secretId } = await baoAppRole(bao, { policy: signingPolicy });
    const vault = {
      type: 'vault',
      address: bao.address,
      caFile: bao.caFile,
      login: { type: 'approle', roleIdFile: await world.put('role-id', roleId), secretIdFile: await world.put('secret-id', secretId) },
      role: 'signet',
    };
    await using mesh = await startMesh({ leafTtl: '40s', config: { ca: { backends: { vault }, default: 'vault' } } });
    const web = await mesh.workload({ serviceAccount: 'web', auth: 'envoy-grpc-token', api: 'delta' });
    const load = startLoad(web.target('h1'), () => mesh.client(readFileSync(join(mesh.signet.data, 'bundle.pem'), 'utf8')));
    try {
      await load.sawSerials(1);
      await mesh.renew(web.id);
      await load.sawSerials(2);
      await bao.stop();
      const backends = { vault: { ...vault, fallback: 'spare' }, spare: { type: 'builtin' } };
      const said = await mesh.reload({ ca: { backends, default: 'vault' } });
      assert.match(said, /is in force/, said);
      await load.sawSerials(4);
      assert.equal(await signer(mesh, web.id), 'spare');
      await bao.start();
      await eventually('the first signs again', async () => ((await signer(mesh, web.id)) === 'vault' ? true : undefined), 60_000, 500);
      await load.sawSerials(5);
    } finally {
      t.diagnostic(describeLoad(await load.stop()));
    }
    assert.equal(load.failed, 0);
  });
});
