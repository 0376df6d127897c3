/** A CA of one's own by the pages that people read, command by command, up to a real Envoy that rotates under it. */
import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { verifyChain } from '../../src/x509/chain.ts';
import { certificatesFromPem } from '../../src/x509/pem.ts';
import { startSoftHsm } from '../support/engines/softhsm.ts';
import { describeLoad, startLoad } from '../support/load.ts';
import { startMesh, trustDomain } from '../support/mesh.ts';
import { openssl } from '../support/openssl.ts';
import { pageSnippets } from '../support/page-snippets.ts';
import { runProgram } from '../support/process.ts';
import { tempFolder } from '../support/temp.ts';
import type { TempFolder } from '../support/temp.ts';

const bin = fileURLToPath(new URL('../../bin/signet.js', import.meta.url));
const rotations = 3;

/** A host on which the commands of a page can be typed. */
async function host(folder: TempFolder, here: (text: string) => string, env: NodeJS.ProcessEnv) {
  await mkdir(folder.file('bin'));
  await mkdir(folder.file('etc'));
  await writeFile(folder.file('bin/signet'), `#!/bin/sh\nexec "${process.execPath}" "${bin}" "$@"\n`, { mode: 0o755 });
  const adapted = (text: string): string => here(text).replaceAll('/etc/signet', folder.file('etc')).replaceAll('example.org', trustDomain);
  return {
    async type(script: string, cwd = folder.path): Promise<string> {
      const ran = await runProgram('/bin/sh', ['-ec', `cd '${cwd}'\n${adapted(script)}`], {
        env: { ...env, PATH: `${folder.file('bin')}:${process.env['PATH'] ?? ''}` },
      });
      assert.equal(ran.code, 0, ran.stderr);
      return ran.stdout;
    },
    configuration: (yaml: string) => parse(adapted(yaml)) as { readonly ca: Readonly<Record<string, unknown>> },
  };
}

/** A server with this CA and an Envoy under it, whose certificates rotate while somebody asks all the time. */
async function rotates(ca: Readonly<Record<string, unknown>>, rootFile: string, env: NodeJS.ProcessEnv): Promise<string> {
  await using mesh = await startMesh({ leafTtl: '8s', config: { ca }, env: env as Record<string, string> });
  const web = await mesh.workload({ serviceAccount: 'web' });
  const load = startLoad(web.target('h1'), () => mesh.client());
  await load.sawSerials(rotations + 1);
  const report = await load.stop();
  assert.equal(report.failed, 0, `${describeLoad(report)}\n${await mesh.signet.log()}`);
  assert.equal(await web.envoy.stat('sds.default.update_rejected'), 0);
  // What workloads trust is that root, and nothing of the server's own making.
  const root = certificatesFromPem(await readFile(rootFile, 'utf8'));
  assert.deepEqual(certificatesFromPem(await mesh.bundle()), root);
  const client = await mesh.api('web');
  const { certificate } = await client.credential();
  client.close();
  verifyChain(certificatesFromPem(certificate), root, Date.now());
  return describeLoad(report);
}

describe('docs/how-to/ca-pkcs11.md, followed to the letter', () => {
  it('makes a CA in an HSM, under which a real Envoy rotates with 0 failed', async (t) => {
    await using hsm = await startSoftHsm();
    await using folder = await tempFolder();
    const here = (text: string): string => text.replaceAll('/usr/lib/softhsm/libsofthsm2.so', hsm.realModule);
    const { type, configuration } = await host(folder, here, hsm.env);
    await writeFile(folder.file('etc/pin'), hsm.pin, { mode: 0o600 });
    const [init = ''] = await pageSnippets('ca-pkcs11.md', '2. A root whose key is made in it', 'sh');
    const printed = parse(await type(init)) as { ca: { backends: { own: { signer: object } } } };
    const [yaml = ''] = await pageSnippets('ca-pkcs11.md', '3. The configuration', 'yaml');
    const { ca } = configuration(yaml);
    // What the command printed says the same, and the key's id besides.
    const { own } = printed.ca.backends;
    const { hsm: told } = ca['backends'] as { hsm: typeof own };
    assert.deepEqual({ ...own, signer: undefined }, { ...told, signer: undefined });
    for (const [setting, value] of Object.entries(told.signer)) assert.equal((own.signer as Record<string, unknown>)[setting], value);
    t.diagnostic(await rotates(ca, folder.file('etc/ca/root.pem'), hsm.env));
  });
});

describe('docs/how-to/offline-root.md, followed to the letter', () => {
  it('has an intermediate signed by OpenSSL, under which a real Envoy rotates with 0 failed', async (t) => {
    await using folder = await tempFolder();
    const { type, configuration } = await host(folder, (text) => text, process.env);
    const [offline, carried] = [folder.file('offline'), folder.file('carried')];
    await Promise.all([mkdir(offline), mkdir(carried)]);
    await writeFile(folder.file('etc/passphrase'), 'only for this test', { mode: 0o600 });
    const rootFiles = ['-keyout', join(offline, 'root.key'), '-out', join(offline, 'root.pem')];
    const profile = ['-addext', 'basicConstraints=critical,CA:TRUE,pathlen:1', '-addext', 'keyUsage=critical,keyCertSign,cRLSign'];
    await openssl([
      'req',
      '-x509',
      '-newkey',
      'rsa:3072',
      '-nodes',
      ...rootFiles,
      '-subj',
      '/O=Example/CN=Offline',
      '-days',
      '3650',
      ...profile,
    ]);

    const [csr = ''] = await pageSnippets('offline-root.md', "1. On the server's host: a key and a request", 'sh');
    await type(csr);
    await writeFile(join(offline, 'intermediate.csr'), await readFile(folder.file('etc/ca/intermediate.csr')));
    const [, sign = ''] = await pageSnippets('offline-root.md', "2. Where the root's key is: a certificate", 'sh');
    const shown = await type(sign, offline);
    for (const fact of ['CA:TRUE, pathlen:0', 'Certificate Sign, CRL Sign', `URI:spiffe://${trustDomain}`])
      assert.ok(shown.includes(fact), shown);
    for (const name of ['root.pem', 'intermediate.pem']) await writeFile(join(carried, name), await readFile(join(offline, name)));
    const [importing = ''] = await pageSnippets('offline-root.md', "3. On the server's host: import", 'sh');
    const printed = await type(importing, carried);
    const [yaml = ''] = await pageSnippets('offline-root.md', "3. On the server's host: import", 'yaml');
    const { ca } = configuration(yaml);
    assert.deepEqual(parse(printed), { ca });
    t.diagnostic(await rotates(ca, folder.file('etc/ca/root.pem'), process.env));
  });

  it('has one signed by Signet, with the intermediate in an HSM', async () => {
    await using hsm = await startSoftHsm();
    await using folder = await tempFolder();
    const { type } = await host(folder, (text) => text, hsm.env);
    await writeFile(folder.file('root-passphrase'), 'only for this test', { mode: 0o600 });
    const key = `--signer pkcs11 --with module=${hsm.realModule} tokenLabel=signet keyLabel=issuing pinFile=${hsm.pinFile}`;
    await type(`signet ca init --trust-domain example.org --key-file root.key --passphrase-file root-passphrase --key ec-p384 --out .`);
    await type(`signet ca csr --trust-domain example.org ${key} --key rsa-3072 --out .`);
    const [sign = ''] = await pageSnippets('offline-root.md', "2. Where the root's key is: a certificate", 'sh');
    await type(sign);
    const printed = parse(
      await type(`signet ca import --trust-domain example.org --root root.pem --certificate intermediate.pem ${key} --out ca`),
    ) as {
      ca: Readonly<Record<string, unknown>>;
    };
    await rotates(printed.ca, folder.file('ca/root.pem'), hsm.env);
  });
});
