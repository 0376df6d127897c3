import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import type { ConfigInput } from '../../src/server/config/schema.ts';
import { verifySvid } from '../../src/x509/chain.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { certificatesFromPem } from '../../src/x509/pem.ts';
import { runCli } from '../support/recording-terminal.ts';
import { tempFolder } from '../support/temp.ts';
import type { TempFolder } from '../support/temp.ts';
import { idOf, web, wholeServer } from '../support/whole-server.ts';

const template = fileURLToPath(new URL('../../examples/plugins/typescript/src/main.ts', import.meta.url));

/** The first configuration of docs/how-to/ca-plugin.md, with the template for the program, a folder that is here, and this root. */
async function fromThePage(folder: TempFolder, approved: string): Promise<Partial<ConfigInput>> {
  const yaml = /```yaml\n([^]*?)```/.exec(await readFile('docs/how-to/ca-plugin.md', 'utf8'))?.[1] ?? '';
  const text = yaml
    .replace('[/usr/local/bin/corporate-ca-plugin, ', `[${process.execPath}, ${template}, `)
    .replace('/var/lib/corporate-ca', folder.file('ca'))
    .replace('0'.repeat(64), `'${approved}'`);
  return parse(text) as Partial<ConfigInput>;
}

describe('docs/how-to/ca-plugin.md, followed to the letter', () => {
  it('the hash that the test of the plugin prints goes into the settings; then it signs, and its root is the bundle', async () => {
    await using folder = await tempFolder();
    const tested = await runCli([
      'plugin',
      'test',
      '--trust-domain',
      'example.org',
      '--signatures',
      '1',
      '--command',
      process.execPath,
      template,
      folder.file('ca'),
    ]);
    assert.equal(tested.code, 0, tested.stdout + tested.stderr);
    const hash = / {4}- ([0-9a-f]{64}) /.exec(tested.stdout)?.[1] ?? '';
    await using whole = await wholeServer(await fromThePage(folder, hash));
    const { chain } = (await whole.doors.workload.call(
      'SignCertificate',
      { csr: createCsr(generateKeyPair(), []) },
      whole.folder.bearer(web),
    )) as { chain: Buffer[] };
    const bundle = certificatesFromPem(await readFile(`${whole.folder.data}/bundle.pem`, 'utf8'));
    assert.equal(verifySvid(chain, bundle, Date.now()).spiffeId, idOf(web));
    assert.deepEqual(bundle, certificatesFromPem(await readFile(folder.file('ca/root.pem'), 'utf8')));
  });

  it('a root that nobody approved is not trusted, and the message names its hash and where it goes', async () => {
    await using folder = await tempFolder();
    await assert.rejects(
      async () => {
        await using _whole = await wholeServer(await fromThePage(folder, '0'.repeat(64)));
      },
      (error) => /approvedAnchors/.test(String(error)) && /[0-9a-f]{64}/.test(String(error)),
    );
  });
});
