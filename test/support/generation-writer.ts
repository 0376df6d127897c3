/** Writes generations as fast as it can until it is killed: `generation-writer.ts FOLDER`. Says `writing` once. */
import { openGenerationFolder } from '../../src/agent/files/generation-folder.ts';
import { testPki } from './test-pki.ts';

const folder = process.argv[2] ?? '';
const pki = await testPki();
const names = ['tls.crt', 'tls.key', 'ca.crt'];
const generations = await openGenerationFolder({ setting: 'folder', folder, mode: 0o700, entrant: 'a reader' }, names);
await generations.clean();
console.log('writing');
for (;;) {
  const { certificatePem, keyPem } = await pki.client('spiffe://td.test/ns/shop/sa/web');
  await generations.replace(
    [
      { name: 'tls.crt', content: certificatePem, secret: false },
      { name: 'tls.key', content: keyPem, secret: true },
      { name: 'ca.crt', content: pki.rootPem, secret: false },
    ],
    AbortSignal.timeout(30_000),
  );
  await generations.clean();
}
