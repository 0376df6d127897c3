import { systemClock } from '../../src/base/clock.ts';
import { openKubernetesCsrAuthority } from '../../src/ca/kubernetes-csr/kubernetes-csr-authority.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { authoritySuite } from '../support/authority-suite.ts';
import { publishRoots, signerBundle, startCsrSigner } from '../support/engines/csr-signer.ts';
import { startKubeApiServer } from '../support/engines/kube-apiserver.ts';
import { projectToken } from '../support/kubernetes-caller.ts';
import { turnAway } from '../support/kubernetes-throttle.ts';
import { pagePermissions } from '../support/page-text.ts';
import { silentLog } from '../support/silent-log.ts';
import { tempFolder } from '../support/temp.ts';

const page = 'ca-kubernetes-csr.md';

authoritySuite({
  name: 'kubernetes-csr',
  engine: 'kube-apiserver 1.36 (real), an approver and signer of the tests',
  trustDomain: parseTrustDomain('example.org'),
  intermediates: 1,
  shortestLifeMs: 720_000,
  async make() {
    const folder = await tempFolder();
    const kube = await startKubeApiServer({ fairness: true });
    const signer = await startCsrSigner(kube);
    await publishRoots(kube, signer.roots());
    const caller = await projectToken(kube, folder, 'signet', 'signet');
    await kube.apply(await pagePermissions(page));
    const open = (over: { readonly kubeconfig?: string; readonly clusterTrustBundle?: string } = {}) =>
      openKubernetesCsrAuthority({
        name: 'cluster',
        cluster: { kubeconfig: over.kubeconfig ?? caller.kubeconfig },
        signerName: signer.signerName,
        rootsFrom: { clusterTrustBundle: over.clusterTrustBundle ?? signerBundle },
        clock: systemClock,
        random: Math.random,
        log: silentLog,
      });
    return {
      open,
      faults: {
        outage: kube,
        openRefused: async () => open({ kubeconfig: await kube.kubeconfig({ token: 'nobody' }) }),
        openMisconfigured: () => open({ clusterTrustBundle: 'pki.example.org:workloads:other' }),
        outliveCredential: caller.rotate,
        throttle: () => turnAway(kube, 'signet', 'signet'),
        async rotate() {
          const next = await signer.newRoot();
          await publishRoots(kube, signer.roots() + next.pem);
          next.switch();
        },
      },
      async dispose() {
        await signer[Symbol.asyncDispose]();
        await kube[Symbol.asyncDispose]();
        await folder[Symbol.asyncDispose]();
      },
    };
  },
});
