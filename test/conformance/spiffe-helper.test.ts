import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { spawn } from 'node:child_process';
import { it } from 'node:test';
import { decodeJwt } from 'jose';
import { eventually } from '../support/eventually.ts';
import { goPrograms } from '../support/foreign-clients.ts';
import { endChild, keepTrack } from '../support/process.ts';
import { tempFolder } from '../support/temp.ts';
import { startWorkloadApi, testTrustDomain } from '../support/workload-world.ts';

it('spiffe-helper writes certificate, key, bundle, token and JWT keys, and writes them anew after a rotation', async () => {
  const { spiffeHelper } = await goPrograms();
  const partner = await testTrustDomain('partner.example');
  await using world = await startWorkloadApi({ federated: [partner] });
  await using folder = await tempFolder();
  await mkdir(folder.file('certs'));
  const out = (name: string): string => `${folder.file('certs')}/${name}`;
  await writeFile(
    folder.file('helper.conf'),
    `agent_address = "${world.socket}"
cert_dir = "${folder.file('certs')}"
svid_file_name = "svid.pem"
svid_key_file_name = "key.pem"
svid_bundle_file_name = "bundle.pem"
include_federated_domains = true
jwt_svids = [{jwt_audience="db", jwt_svid_file_name="db.token"}]
jwt_bundle_file_name = "jwt.json"
`,
  );
  const helper = spawn(spiffeHelper, ['-config', folder.file('helper.conf')], { stdio: 'ignore' });
  keepTrack(helper);
  try {
    const serial = async (): Promise<string> => {
      const text = await readFile(out('svid.pem'), 'utf8');
      const leaf = new X509Certificate(text);
      assert.equal(leaf.subjectAltName, 'URI:spiffe://test.example/ns/shop/sa/web');
      const key = createPrivateKey(await readFile(out('key.pem'), 'utf8'));
      assert.ok(createPublicKey(key).equals(leaf.publicKey));
      return leaf.serialNumber;
    };
    const first = await eventually('the files', serial);
    assert.equal((await stat(out('key.pem'))).mode & 0o777, 0o600);
    const bundle = await eventually('the bundle', () => readFile(out('bundle.pem'), 'utf8'));
    assert.equal(bundle.split('BEGIN CERTIFICATE').length - 1, 2, 'our root and the federated one');
    const token = await eventually('the token', () => readFile(out('db.token'), 'utf8'));
    assert.equal(decodeJwt(token).aud?.toString(), 'db');
    await world.rotate();
    await eventually('another serial', async () => ((await serial()) === first ? undefined : true));
  } finally {
    await endChild(helper);
  }
});
