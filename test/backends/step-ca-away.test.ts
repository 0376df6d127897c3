import { writeFile } from 'node:fs/promises';
import { describeAuthorityAway } from '../support/authority-away-story.ts';
import { startStepCa } from '../support/engines/step-ca.ts';
import { foreignCa } from '../support/openssl.ts';
import { tempFolder } from '../support/temp.ts';

describeAuthorityAway('step-ca', async () => {
  const folder = await tempFolder();
  const ca = await startStepCa({ x5cRootPem: (await foreignCa('Machines')).certificate });
  await writeFile(folder.file('provisioner.jwk'), JSON.stringify(ca.provisionerKey), { mode: 0o600 });
  return {
    settings: {
      type: 'step-ca',
      url: ca.url,
      rootFingerprints: [ca.rootFingerprint],
      provisioner: 'signet',
      keyFile: folder.file('provisioner.jwk'),
    },
    stop: () => ca.stop(),
    start: () => ca.start(),
    async [Symbol.asyncDispose]() {
      await ca[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
});
