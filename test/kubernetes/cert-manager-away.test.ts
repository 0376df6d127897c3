/** cert-manager's controllers are stopped: requests are made, and nobody answers them. */
import { describeAuthorityAway } from '../support/authority-away-story.ts';
import { caIssuer } from '../support/engines/cert-manager-ca.ts';
import { startCertManager } from '../support/engines/cert-manager.ts';
import { startKubeApiServer } from '../support/engines/kube-apiserver.ts';
import { projectToken } from '../support/kubernetes-caller.ts';
import { pagePermissions, pageSettings } from '../support/page-text.ts';
import { tempFolder } from '../support/temp.ts';

const page = 'ca-cert-manager.md';

describeAuthorityAway('cert-manager', async () => {
  await using opened = new AsyncDisposableStack();
  const folder = opened.use(await tempFolder());
  const kube = opened.use(await startKubeApiServer());
  const certManager = opened.use(await startCertManager(kube));
  const issuer = await caIssuer(kube);
  const { kubeconfig } = await projectToken(kube, folder, 'signet', 'signet');
  await kube.apply(await pagePermissions(page));
  const { ca } = await pageSettings(page);
  const held = opened.move();
  return {
    settings: { ...ca?.backends?.['cluster'], kubeconfig },
    stop: certManager.stop,
    async start() {
      await certManager.start();
      await issuer.answers();
    },
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
});
