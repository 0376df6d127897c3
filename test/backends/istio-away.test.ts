import { writeFile } from 'node:fs/promises';
import { describeAuthorityAway } from '../support/authority-away-story.ts';
import { startIstioCa } from '../support/engines/istio-ca.ts';
import { tempFolder } from '../support/temp.ts';

describeAuthorityAway('istio', async () => {
  const folder = await tempFolder();
  const token = 'a-token-of-the-cluster';
  const ca = await startIstioCa({ node: 'istio-system/signet', token, pods: ['shop/web', 'load/client'] });
  await writeFile(folder.file('token'), token, { mode: 0o600 });
  return {
    settings: {
      type: 'istio',
      address: ca.address,
      caFile: ca.tlsCaFile,
      roots: ca.rootsFile,
      tokenFile: folder.file('token'),
      impersonate: true,
      clusterId: 'Kubernetes',
    },
    stop: () => ca.stop(),
    start: () => ca.start(),
    async [Symbol.asyncDispose]() {
      await ca[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
});
