/** An intermediate of ours, as the page configures it, while OpenBao or another Signet above it is away. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { baoAppRole, baoPki } from '../support/engines/openbao-pki.ts';
import { pageConfig } from '../support/page-config.ts';
import { pageSnippets } from '../support/page-snippets.ts';
import { mintToken, startSignet } from '../support/signet.ts';
import { tempFolder } from '../support/temp.ts';
import { describeUpstreamAway } from '../support/upstream-away-story.ts';
import type { AwayUpstream } from '../support/upstream-away-story.ts';
import { vaultWorld } from '../support/vault-world.ts';

const page = 'ca-intermediate.md';

describeUpstreamAway('intermediate below Vault', belowVault);
describeUpstreamAway('intermediate below another Signet', belowSignet);

async function belowVault(): Promise<AwayUpstream> {
  const world = await vaultWorld();
  const { bao } = world;
  await baoPki(bao, { trustDomain: 'cluster.local' });
  const section = 'Below Vault or OpenBao';
  const [policy = ''] = await pageSnippets(page, section, 'hcl');
  const { roleId, secretId } = await baoAppRole(bao, { policy });
  const { ca } = await pageConfig(page, section, {
    'https://vault.example.org:8200': bao.address,
    '/etc/signet/vault-ca.pem': bao.caFile,
    '/etc/signet/role-id': await world.put('role-id', roleId),
    '/etc/signet/secret-id': await world.put('secret-id', secretId),
  });
  return {
    settings: { ...ca?.backends?.['central'] },
    stop: () => bao.stop(),
    start: () => bao.start(),
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
}

async function belowSignet(): Promise<AwayUpstream> {
  const folder = await tempFolder();
  const [section, data] = ['Below another Signet', folder.file('above')];
  await writeFile(folder.file('above.yaml'), stringify(await pageConfig(page, section, {}, 0)));
  let above = await startSignet({ data, args: ['--config', folder.file('above.yaml')] });
  await writeFile(folder.file('token'), await mintToken(data, { namespace: 'signet', serviceAccount: 'signet' }), { mode: 0o600 });
  const told = {
    'signet.central.example.org:8443': above.grpc,
    '/etc/signet/upstream-ca.pem': join(data, 'server-ca.pem'),
    '/var/run/secrets/tokens/signet': folder.file('token'),
  };
  const { ca } = await pageConfig(page, section, told, 1);
  return {
    settings: { ...ca?.backends?.['central'] },
    stop: () => above.kill('SIGKILL'),
    async start() {
      above = await above.restart();
    },
    async [Symbol.asyncDispose]() {
      await above[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}
