import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { askWithCsr } from '../../src/api/named-csr.ts';
import { openCertificateClient } from '../../src/cli/certificate-client.ts';
import { bindOnce } from '../../src/cli/key-binding.ts';
import { openKeyFolder } from '../../src/cli/key-folder.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { startCsrSigner } from '../support/engines/csr-signer.ts';
import { startKubeApiServer } from '../support/engines/kube-apiserver.ts';
import { projectToken } from '../support/kubernetes-caller.ts';
import { pagePermissions } from '../support/page-text.ts';
import { tempFolder } from '../support/temp.ts';
import { idOf, keyDirectory, web, wholeServer } from '../support/whole-server.ts';

describe('a CA that certifies what the CSR names', () => {
  it('serves clients of ours who learn their name from the server, and binds no key without it', async () => {
    await using folder = await tempFolder();
    await using kube = await startKubeApiServer();
    await using signer = await startCsrSigner(kube);
    const { kubeconfig } = await projectToken(kube, folder, 'signet', 'signet');
    await kube.apply(await pagePermissions('ca-kubernetes-csr.md'));
    await writeFile(folder.file('roots.pem'), signer.roots());
    const backend = {
      type: 'kubernetes-csr',
      kubeconfig,
      signerName: signer.signerName,
      rootsFrom: { file: folder.file('roots.pem') },
    } as const;
    await using whole = await wholeServer({ ca: { backends: { cluster: backend } } });
    const id = idOf(web);
    const refusal = { code: 3, reason: 'CSR_NAME_REQUIRED' };

    // Anybody's client is told, before the signer is asked.
    const { workload } = whole.doors;
    const nameless = { csr: createCsr(generateKeyPair(), []) };
    for (const [method, request] of [
      ['SignCertificate', nameless],
      ['BindKey', { ...nameless, key_directory: keyDirectory }],
    ] as const) {
      const { code, reason, details } = await workload.refused(method, request, whole.folder.bearer(web));
      assert.deepEqual({ code, reason }, refusal);
      assert.match(details, new RegExp(`URI SAN ${id}`));
    }

    // Ours ask again.
    await writeFile(folder.file('token'), whole.folder.token(web));
    const client = await openCertificateClient({
      server: whole.doors.address,
      caFile: join(whole.folder.data, 'server-ca.pem'),
      serverName: 'localhost',
      tokenFile: folder.file('token'),
      instance: undefined,
    });
    const signed = await askWithCsr(generateKeyPair(), (csr) => client.signCertificate({ csr, ttlSeconds: 0 }));
    assert.deepEqual(parseCertificate(signed.chain[0] ?? Buffer.alloc(0)).uris, [id]);
    const keys = await openKeyFolder(folder.file('keys'), Date.now);
    const bound = await bindOnce(
      { folder: keys, keyDirectory, algorithm: 'ec-p256', bindKey: (request) => client.bindKey(request) },
      false,
    );
    assert.equal(bound.spiffeId, id);
    keys.close();
    client.close();
  });
});
