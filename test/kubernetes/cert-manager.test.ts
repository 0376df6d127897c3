import { systemClock } from '../../src/base/clock.ts';
import { openCertManagerAuthority } from '../../src/ca/cert-manager/cert-manager-authority.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { authoritySuite } from '../support/authority-suite.ts';
import { caIssuer } from '../support/engines/cert-manager-ca.ts';
import { startCertManager } from '../support/engines/cert-manager.ts';
import { startKubeApiServer } from '../support/engines/kube-apiserver.ts';
import { projectToken } from '../support/kubernetes-caller.ts';
import { turnAway } from '../support/kubernetes-throttle.ts';
import { pagePermissions } from '../support/page-text.ts';
import { silentLog } from '../support/silent-log.ts';
import { tempFolder } from '../support/temp.ts';

const namespace = 'signet-certificates';

authoritySuite({
  name: 'cert-manager',
  engine: 'cert-manager 1.21.2 on kube-apiserver 1.36 (both real), a CA issuer',
  trustDomain: parseTrustDomain('example.org'),
  intermediates: 1,
  async make() {
    const folder = await tempFolder();
    const kube = await startKubeApiServer({ fairness: true });
    const certManager = await startCertManager(kube);
    const issuer = await caIssuer(kube);
    const caller = await projectToken(kube, folder, 'signet', 'signet');
    await kube.apply(await pagePermissions('ca-cert-manager.md'));
    const open = (over: { readonly kubeconfig?: string; readonly issuer?: string } = {}) =>
      openCertManagerAuthority({
        name: 'cluster',
        cluster: { kubeconfig: over.kubeconfig ?? caller.kubeconfig },
        namespace,
        issuer: { name: over.issuer ?? 'workloads', kind: 'Issuer', group: 'cert-manager.io' },
        rootsFrom: { configMap: { namespace, name: 'workload-roots', key: 'ca.crt' } },
        clock: systemClock,
        random: Math.random,
        log: silentLog,
      });
    return {
      open,
      faults: {
        outage: kube,
        openRefused: async () => open({ kubeconfig: await kube.kubeconfig({ token: 'nobody' }) }),
        openMisconfigured: () => open({ issuer: 'nobody' }),
        outliveCredential: caller.rotate,
        throttle: () => turnAway(kube, 'signet', 'signet'),
        rotate: issuer.rotate,
      },
      async dispose() {
        await certManager[Symbol.asyncDispose]();
        await kube[Symbol.asyncDispose]();
        await folder[Symbol.asyncDispose]();
      },
    };
  },
});
