import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { ConfigInput } from '../../src/server/config/schema.ts';
import { verifySvid } from '../../src/x509/chain.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair, sha256Hex } from '../../src/x509/keys.ts';
import { certificatesFromPem } from '../../src/x509/pem.ts';
import { baoPki } from '../support/engines/openbao-pki.ts';
import { vaultTrustDomain, vaultWorld } from '../support/vault-world.ts';
import { web, wholeServer } from '../support/whole-server.ts';

it('a root that is pinned: the next one signs nothing and is in no bundle until the operator approves it', async () => {
  await using world = await vaultWorld();
  const { bao } = world;
  const pki = await baoPki(bao, { trustDomain: vaultTrustDomain });
  const tokenFile = await world.put('token', bao.rootToken);
  const rootHash = async (): Promise<string> => {
    const { certificate } = z.object({ certificate: z.string() }).parse(await bao.api('GET', `${pki.rootMount}/issuer/default`));
    return sha256Hex(certificatesFromPem(certificate)[0] ?? Buffer.alloc(0));
  };
  const configured = (approvedAnchors: string[]): Partial<ConfigInput> => ({
    ca: {
      backends: {
        corporate: {
          type: 'vault',
          address: bao.address,
          caFile: bao.caFile,
          login: { type: 'token', tokenFile },
          role: 'signet',
          poll: '1s',
          settle: '1s',
          anchors: 'pinned',
          approvedAnchors,
        },
      },
    },
  });
  const first = await rootHash();
  await using whole = await wholeServer(configured([first]));
  const bundle = async (): Promise<Buffer[]> => certificatesFromPem(await readFile(`${whole.folder.data}/bundle.pem`, 'utf8'));
  /** Signs, verifies, and gives the intermediate. */
  const signing = async (): Promise<Buffer | undefined> => {
    const answer = await whole.doors.workload.call('SignCertificate', { csr: createCsr(generateKeyPair(), []) }, whole.folder.bearer(web));
    const { chain } = answer as { readonly chain: Buffer[] };
    verifySvid(chain, await bundle(), Date.now());
    return chain[1];
  };
  const before = await signing();
  assert.ok(before);

  // The next root has no approval, and settles for four polls.
  await bao.api('POST', `${pki.rootMount}/config/issuers`, {
    default: z.string().parse((await bao.api('GET', `${pki.rootMount}/issuer/default`))['issuer_id']),
    default_follows_latest_issuer: true,
  });
  await pki.rotate();
  const second = await rootHash();
  assert.notEqual(second, first);
  for (let i = 0; i < 5; i++) {
    await sleep(1000);
    assert.ok((await signing())?.equals(before), 'the issuer that is approved signs on');
    assert.deepEqual((await bundle()).map(sha256Hex), [first]);
  }

  await whole.folder.configure(configured([first, second]));
  assert.equal(await whole.reload(), true);
  const after = await signing();
  assert.ok(after && !after.equals(before));
  assert.ok((await bundle()).map(sha256Hex).includes(second));
});
